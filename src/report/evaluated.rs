//! What `wgquant eval` measured.

use serde::Serialize;

use super::{DeviceInfo, ModelInfo};
use crate::eval::TaskResult;

/// Questions answered by a model, alone or beside a base.
#[derive(Clone, Debug, Serialize)]
pub struct EvalReport {
    /// The model.
    #[serde(flatten)]
    pub model: ModelInfo,
    /// The base, if there is one.
    pub base_model: Option<ModelInfo>,
    /// Where they ran.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// A file of questions each.
    pub tasks: Vec<TaskResult>,
}
