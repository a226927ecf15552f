//! What a page adds to the result file: the browser's own words, and a small model that ran there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a browser tells of itself and its adapter, beyond wgpu's report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Browser {
    /// Name and version.
    pub name: String,
    /// `navigator.userAgent`.
    pub user_agent: String,
    /// Of `GPUAdapterInfo`; may be empty, like the next three.
    pub vendor: String,
    /// Family of GPUs.
    pub architecture: String,
    /// Device.
    pub device: String,
    /// Driver's words.
    pub description: String,
    /// WebGPU features of the adapter.
    pub features: Vec<String>,
    /// WebGPU limits of the adapter.
    pub limits: BTreeMap<String, u64>,
}

/// A model's measurement on a page.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ModelRun {
    /// `original`, `W8A8`, ..
    pub name: String,
    /// Bytes of embedding, head and linear layers.
    pub weight_bytes: usize,
    /// Tokens predicted.
    pub tokens: usize,
    /// Perplexity over them.
    pub perplexity: f64,
    /// Perplexity over the original's.
    pub perplexity_ratio: f64,
    /// Mean KL(original || this), nats a token.
    pub mean_kl: f64,
    /// Share of tokens with the original's most likely next token, 0 to 1.
    pub top1_agreement: f64,
    /// Decoding speed, one sequence.
    pub tokens_per_second: f64,
    /// What it continued.
    pub prompt: String,
    /// Its greedy continuation.
    pub text: String,
}
