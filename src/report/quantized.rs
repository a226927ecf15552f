//! What `wgquant quantize` did.

use serde::Serialize;

use super::{DeviceInfo, ModelInfo};
use crate::quantize::ModuleLoss;
use crate::recipe::Recipe;

/// A model before and after.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizeReport {
    /// The original.
    pub source: ModelInfo,
    /// The quantized model.
    pub output: ModelInfo,
    /// Bytes before over bytes after.
    pub reduction: f64,
    /// What was done.
    pub recipe: Recipe,
    /// Where it was done.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// Seconds it took.
    pub seconds: f64,
    /// Modules whose rows are no whole number of groups; other tools refuse the model.
    pub ragged: Vec<String>,
    /// What GPTQ lost in each module, in the order they were quantized.
    pub losses: Vec<ModuleLoss>,
}
