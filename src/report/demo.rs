//! What `wgquant demo` measured.

use serde::Serialize;

use super::{DeviceInfo, ModelInfo};

/// The whole demo.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// Program and version.
    pub tool: String,
    /// Where everything ran.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// Kernel cases that agreed with the CPU reference.
    pub cases_passed: usize,
    /// Kernel cases that did not.
    pub cases_failed: usize,
    /// File of the held-out tokens.
    pub file: String,
    /// Windows of it that were measured.
    pub windows: usize,
    /// Tokens predicted.
    pub tokens: usize,
    /// What every model continued.
    pub prompt: String,
    /// The original, then each quantized model.
    pub models: Vec<DemoRow>,
    /// Seconds in all.
    pub seconds: f64,
}

/// One model of the demo.
#[derive(Clone, Debug, Serialize)]
pub struct DemoRow {
    /// `original`, `w8a8`, `w8a8 + hadamard`, ..
    pub name: String,
    /// Directory and size.
    #[serde(flatten)]
    pub model: ModelInfo,
    /// Bytes of the original over this one's.
    pub reduction: f64,
    /// Perplexity of the held-out tokens.
    pub perplexity: f64,
    /// Its standard error over windows.
    pub perplexity_stderr: Option<f64>,
    /// Perplexity over the original's.
    pub perplexity_ratio: f64,
    /// Mean KL(original || this) in nats a token.
    pub mean_kl: f64,
    /// Share of tokens whose most likely next token is the original's, 0 to 1.
    pub top1_agreement: f64,
    /// Decoding speed, one sequence; none where the model ended it before there was a second token.
    pub tokens_per_second: Option<f64>,
    /// Its greedy continuation of the prompt.
    pub text: String,
}
