//! What calibrated rewrites need to know of a model's activations.

use super::Recipe;
use super::sequential::timed;
use crate::calibrate::{SiteStats, Stats, Windows, input_stats};
use crate::error::{Error, Result};
use crate::gpu::Device;
use crate::model::{Block, ModelConfig, ModelSource, Names};
use crate::transform::{self, Inputs, Transformed};

/// `source` under the rewrites of `recipe`; where those take statistics of activations, they are gathered on `calibration` first.
///
/// # Errors
/// As [`Transformed::with`] and running the model; [`Error::Argument`] when texts are needed and there are none.
pub fn transformed<'a>(
    source: &'a dyn ModelSource,
    recipe: &Recipe,
    device: &Device,
    calibration: Option<&Windows>,
) -> Result<Transformed<'a>> {
    let transform = recipe.transform;
    if !transform.needs_stats() {
        return Transformed::new(source, transform);
    }
    let missing = || Error::argument("transform", "KLT, smoothing and permutations need calibration text");
    let windows = calibration.ok_or_else(missing)?;
    // Of the model under the rewrites that come before those that need them.
    let base = Transformed::new(source, transform.base())?;
    let stats = timed(
        || "statistics for the transform".to_owned(),
        || input_stats(&base, device, &windows.0, transform.needs_covariance()),
    )?;
    let mut inputs = inputs(source.config(), &stats);
    if transform.smooth.searches() {
        super::awq::search(&base, recipe, &mut inputs)?;
    }
    Transformed::owning(source, transform, inputs)
}

/// The statistics by the names that transforms have for them: those of the runtime's taps.
fn inputs(config: &ModelConfig, stats: &Stats) -> Inputs {
    let names = Names::default();
    let mut inputs = Inputs::default();
    let mut put = |site: String, tap: String| {
        if let Some(s) = stats.sites.get(&site) {
            inputs.stats.insert(tap, plain(s));
        }
    };
    for (i, block) in config.blocks.iter().enumerate() {
        let (reader, writer, tap) = match block {
            Block::Mamba2 => ("in_proj", "out_proj", "gated_norm"),
            Block::Attention => ("q_proj", "o_proj", "attention"),
            Block::Mlp => ("up_proj", "down_proj", "up_proj"),
        };
        let site = |part: &str| names.layer(i, &format!("mixer.{part}"));
        put(site(reader), format!("layer.{i}.norm"));
        put(site(writer), format!("layer.{i}.{tap}"));
    }
    put(names.head().to_owned(), "norm_f".to_owned());
    inputs
}

fn plain(site: &SiteStats) -> transform::SiteStats {
    let tokens = site.samples.max(1) as f64;
    transform::SiteStats {
        absmax: site.absmax().into_iter().map(f64::from).collect(),
        rms: site.moment(2).into_iter().map(f64::sqrt).collect(),
        covariance: site.products.iter().flatten().map(|sum| sum / tokens).collect(),
        ..transform::SiteStats::default()
    }
}
