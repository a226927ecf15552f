//! From file to file, one layer in memory at a time. Blocks on the device.

use std::path::Path;

use super::{RECIPE_FILE, Recipe};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{
    Layer, Linear, ModelConfig, ModelFile, ModelSource, OnlineRotation, Summary, WriteOptions, write_model,
};
use crate::quantize::{Scheme, quantize_embedding, quantize_head, quantize_layer};
use crate::transform::Transformed;

/// A model quantized layer by layer as it is read. Blocks on the device; a browser must not, and has
/// [`Recipe::apply`].
pub struct Quantized<'a> {
    source: Transformed<'a>,
    device: Device,
    scheme: Scheme,
    progress: &'a (dyn Fn(usize) + Sync),
}

impl<'a> Quantized<'a> {
    /// Prepares; `progress` is called with the number of layers done.
    ///
    /// # Errors
    /// As [`Transformed::new`].
    pub fn new(
        source: &'a dyn ModelSource,
        recipe: &Recipe,
        device: &Device,
        progress: &'a (dyn Fn(usize) + Sync),
    ) -> Result<Self> {
        let source = Transformed::new(source, recipe.transform)?;
        Ok(Self { source, device: device.clone(), scheme: recipe.scheme, progress })
    }
}

impl ModelSource for Quantized<'_> {
    fn config(&self) -> &ModelConfig {
        self.source.config()
    }

    fn rotation(&self) -> OnlineRotation {
        self.source.rotation()
    }

    fn embedding(&self) -> Result<Linear> {
        let tied = self.source.config().tied;
        pollster::block_on(quantize_embedding(&self.device, self.source.embedding()?, tied, &self.scheme))
    }

    fn layer(&self, index: usize) -> Result<Layer> {
        let layer = pollster::block_on(quantize_layer(&self.device, self.source.layer(index)?, &self.scheme))?;
        (self.progress)(index + 1);
        Ok(layer)
    }

    fn norm_f(&self) -> Result<Vec<f32>> {
        self.source.norm_f()
    }

    fn head(&self) -> Result<Option<Linear>> {
        pollster::block_on(quantize_head(&self.device, self.source.head()?, &self.scheme))
    }
}

/// Quantizes the model in `file` into the new directory `out`, layer by layer.
///
/// # Errors
/// [`Error::Argument`] for a model that is quantized already, and whatever reading, the device and writing give;
/// nothing is at `out` then.
pub fn quantize(
    file: &ModelFile,
    recipe: &Recipe,
    device: &Device,
    out: &Path,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<Summary> {
    if file.is_quantized() {
        return Err(Error::argument(
            format!("{}", file.checkpoint().dir().display()),
            "is quantized already; start from the original checkpoint",
        ));
    }
    let model = Quantized::new(file, recipe, device, progress)?;
    let text = toml::to_string(recipe).map_err(|e| Error::argument("recipe", e.to_string()))?;
    let mut options = WriteOptions::like(file)?;
    options.files.push((RECIPE_FILE.to_owned(), text));
    write_model(file.checkpoint().config(), &model, out, &options)
}
