//! What a model is: its configuration, its blocks and their weights on the host. Never touches a GPU.
//!
//! A [`ModelSource`] hands out one layer at a time, so that a model need never be in memory whole:
//! [`ModelFile`] reads a checkpoint directory, [`Model`] holds everything (tests, transforms, small models).

mod check;
mod config;
mod file;
mod form;
mod keys;
mod layers;
mod memory;
mod names;
mod quantized;
mod scheme;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a browser reads models and writes none"))]
mod scheme_json;
mod stored;
#[cfg(not(target_arch = "wasm32"))]
mod write;

pub(crate) use check::{check_layer, check_linear, check_vector};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use config::uses_conv_bias;
pub use config::{Block, ModelConfig, ModelType};
pub use file::ModelFile;
pub(crate) use form::scale_type;
pub use form::{Stored, WeightForm};
pub use layers::{Attention, Layer, Linear, Mamba2, Mixer, Mlp, OnlineRotation};
pub use memory::Model;
pub use names::{Expected, Names, Role};
pub use quantized::{Activations, BITS, Group, QuantizedLinear, Scales};
pub use scheme::Target;
pub(crate) use scheme::is_packed;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use stored::StoredWeights;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use write::write_weights;
#[cfg(not(target_arch = "wasm32"))]
pub use write::{Finished, Summary, WriteOptions, write_model, write_model_with};

use crate::error::Result;

/// Anything that can hand out a model's parts, one at a time.
pub trait ModelSource: Send + Sync {
    /// The configuration.
    fn config(&self) -> &ModelConfig;
    /// Rotations the runtime applies to activations.
    fn rotation(&self) -> OnlineRotation;
    /// The forms of the embedding, of all linear layers in order and of the head (none where it is tied), where they are
    /// known before anything is read: so that memory can be planned.
    ///
    /// # Errors
    /// As for [`ModelSource::embedding`].
    fn forms(&self) -> Result<Option<Vec<WeightForm>>> {
        Ok(None)
    }
    /// Token embedding, `[vocab, hidden]`.
    ///
    /// # Errors
    /// Whatever reading the tensor may give; the same for the other methods.
    fn embedding(&self) -> Result<Linear>;
    /// Block `index`, `0..config().blocks.len()`.
    ///
    /// # Errors
    /// As for [`ModelSource::embedding`].
    fn layer(&self, index: usize) -> Result<Layer>;
    /// Weight of the final norm, `[hidden]`.
    ///
    /// # Errors
    /// As for [`ModelSource::embedding`].
    fn norm_f(&self) -> Result<Vec<f32>>;
    /// Output head, `[vocab, hidden]`; `None` when it is the embedding (tied).
    ///
    /// # Errors
    /// As for [`ModelSource::embedding`].
    fn head(&self) -> Result<Option<Linear>>;
}
