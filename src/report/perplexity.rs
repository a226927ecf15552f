//! What `wgquant perplexity` measured.

use serde::Serialize;

use super::{DeviceInfo, ModelInfo};
use crate::eval::{Comparison, Perplexity};

/// A model's perplexity, alone or against a base.
#[derive(Clone, Debug, Serialize)]
pub struct PerplexityReport {
    /// The model.
    #[serde(flatten)]
    pub model: ModelInfo,
    /// Where it ran.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// File of the text or tokens.
    pub file: String,
    /// Windows measured.
    pub windows: usize,
    /// The numbers.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One model, or two over the same tokens.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// No base.
    Alone(Perplexity),
    /// Against a base.
    Against {
        /// The base.
        base_model: ModelInfo,
        /// Both models' numbers.
        #[serde(flatten)]
        comparison: Box<Comparison>,
    },
}

impl Measured {
    /// The model's own numbers.
    #[must_use]
    pub fn model(&self) -> &Perplexity {
        match self {
            Self::Alone(p) => p,
            Self::Against { comparison, .. } => &comparison.model,
        }
    }
}
