//! What an allocation costs as a model: survey and sum know weights alone.

use pollster::block_on;
use serde::Serialize;

use crate::calibrate::Windows;
use crate::error::Result;
use crate::eval::compare;
use crate::gpu::Device;
use crate::model::ModelSource;
use crate::recipe::{Quantized, Recipe};
use crate::runtime::{Engine, EngineOptions};

/// Tokens of a pass at most.
const PASS: usize = 256;

/// KL(original || quantized) of a whole model, weights and activations rounded, states in f32.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MeasuredKl {
    /// Mean, nats a token.
    pub mean_kl: f64,
    /// Its standard error over sequences; none of one sequence.
    pub mean_kl_stderr: Option<f64>,
    /// Sequences it was measured on.
    pub sequences: usize,
    /// Tokens predicted in these.
    pub tokens: usize,
    /// Did some of them calibrate, too? Then other text has a higher KL.
    pub calibrated: bool,
}

/// Quantizes `original` by `recipe` in memory and runs both over `probes`. `done` is called with the number of blocks
/// quantized.
///
/// # Errors
/// As [`Quantized::new`], [`Engine::new`] and running plans.
pub fn measure(
    device: &Device,
    original: &dyn ModelSource,
    recipe: &Recipe,
    calibration: &Windows,
    probes: &Windows,
    done: &(dyn Fn(usize) + Sync),
) -> Result<MeasuredKl> {
    let options = options(probes);
    let quantized = Quantized::new(original, recipe, device, Some(calibration), done)?;
    let mut model = Engine::new(device, &quantized, options)?;
    let mut base = Engine::new(device, original, options)?;
    let result = block_on(compare(&mut base, &mut model, probes, &mut |_, _| {}))?;
    Ok(MeasuredKl {
        mean_kl: result.mean_kl,
        mean_kl_stderr: result.mean_kl_stderr,
        sequences: probes.0.len(),
        tokens: probes.targets(),
        calibrated: probes.0.iter().any(|ids| calibration.0.contains(ids)),
    })
}

/// Of an engine that runs `probes`.
pub(super) fn options(probes: &Windows) -> EngineOptions {
    EngineOptions { context: probes.longest(), pass_tokens: PASS, ..EngineOptions::default() }
}
