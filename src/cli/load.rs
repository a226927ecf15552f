//! Opening models, engines and tokenizers.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use tokenizers::Tokenizer;
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::runtime::{Engine, EngineOptions};

use super::args::GpuArgs;

/// Tokens a pass at most; what is measured does not depend on it.
const PASS: usize = 256;

/// An engine for sequences of `context` tokens. Passes are as long as the logits of all their tokens fit a binding.
/// The kernels it needs are checked first.
pub(super) fn engine(
    gpu: &GpuArgs,
    device: &Device,
    file: &ModelFile,
    context: usize,
    transformers_dt_clamp: bool,
) -> Result<Engine> {
    let engine = unchecked(device, file, context, transformers_dt_clamp)?;
    gpu.check(device, &engine.needs()?)?;
    Ok(engine)
}

/// As [`engine`], but trusts the device: to look for what is wrong with it.
pub(super) fn unchecked(
    device: &Device,
    file: &ModelFile,
    context: usize,
    transformers_dt_clamp: bool,
) -> Result<Engine> {
    let row = file.config().vocab_size as u64 * 4;
    let fits = usize::try_from(device.max_binding_bytes() / row).unwrap_or(PASS);
    let options = EngineOptions { context, pass_tokens: PASS.min(fits).max(1), transformers_dt_clamp };
    let model = file.checkpoint().dir().display();
    Engine::new(device, file, options).with_context(|| format!("loading {model}"))
}

/// The tokenizer beside a model, if there is one.
pub(super) fn tokenizer(model: &Path) -> Result<Option<Tokenizer>> {
    let path = model.join("tokenizer.json");
    if !path.is_file() {
        return Ok(None);
    }
    Tokenizer::from_file(&path).map(Some).map_err(|e| anyhow!("{}: {e}", path.display()))
}
