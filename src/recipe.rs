//! What to do with a model, and the whole pipeline: read → rewrite → quantize → write.

#[cfg(not(target_arch = "wasm32"))]
mod native;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::gpu::Device;
use crate::model::{Model, ModelSource};
use crate::quantize::{Scheme, quantize_embedding, quantize_head, quantize_layer};
use crate::transform::{Transform, Transformed};

#[cfg(not(target_arch = "wasm32"))]
pub use native::{Quantized, quantize};

/// Name of the recipe in the output directory.
pub const RECIPE_FILE: &str = "wgquant_recipe.toml";

/// Everything that decides the output, but the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Bits, groups, embedding.
    pub scheme: Scheme,
    /// Exact rewrites before.
    pub transform: Transform,
}

impl Recipe {
    /// The whole quantized model, in memory: for models that fit there, and for browsers, where nothing may block.
    /// `progress` is called with the number of layers done.
    ///
    /// # Errors
    /// As [`Transformed::new`] and [`crate::quantize::quantize_linear`].
    pub async fn apply(&self, source: &dyn ModelSource, device: &Device, progress: impl Fn(usize)) -> Result<Model> {
        let source = Transformed::new(source, self.transform)?;
        let config = source.config().clone();
        let embedding = quantize_embedding(device, source.embedding()?, config.tied, &self.scheme).await?;
        let mut layers = Vec::with_capacity(config.blocks.len());
        for index in 0..config.blocks.len() {
            layers.push(quantize_layer(device, source.layer(index)?, &self.scheme).await?);
            progress(index + 1);
        }
        let head = quantize_head(device, source.head()?, &self.scheme).await?;
        Ok(Model { rotation: source.rotation(), embedding, layers, norm_f: source.norm_f()?, head, config })
    }
}
