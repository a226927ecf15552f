//! `wgquant quantize`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use wgquant::gpu::Device;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::quantize::{Bits, QUANTIZER};
use wgquant::recipe::{self, Recipe};
use wgquant::report::{DeviceInfo, ModelInfo, QuantizeReport, terminal};

use super::args::GpuArgs;
use super::progress::Bar;
use super::recipe::RecipeArgs;
use super::{Verdict, out};

/// Quantize a model into a new directory
///
/// Writes compressed-tensors format, with the tokenizer, the recipe and a manifest of hashes. The directory appears
/// complete or not at all.
#[derive(Debug, Args)]
pub(super) struct Quantize {
    /// Model directory
    model: PathBuf,
    /// Directory to make; must not exist
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Bits of weights and activations
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(["w8a8", "w4a8", "w4a16"]).try_map(|s| s.parse::<Bits>()))]
    scheme: Bits,
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Quantize {
    pub(super) fn run(&self) -> Result<Verdict> {
        // Known now, and better said before the work than after.
        if self.output.symlink_metadata().is_ok() {
            bail!("output directory: {} exists; choose another or remove it", self.output.display());
        }
        let file = ModelFile::open(&self.model)?;
        let recipe = self.recipe.recipe(self.scheme, &file)?;
        let device = self.gpu.open()?;
        self.gpu.check(&device, &QUANTIZER)?;
        let report = quantize(&file, &recipe, &device, &self.output)?;
        if !report.ragged.is_empty() {
            log::warn!(
                "{} modules have rows that are no whole number of groups; wgquant runs the model, transformers and \
                 vLLM refuse it: {}",
                report.ragged.len(),
                report.ragged.join(", ")
            );
        }
        out::report(&report, self.json, terminal::quantized)?;
        Ok(Verdict::Passed)
    }
}

/// Quantizes with a progress bar, and opens the result to describe it.
pub(super) fn quantize(file: &ModelFile, recipe: &Recipe, device: &Device, out: &Path) -> Result<QuantizeReport> {
    let start = Instant::now();
    let bar = Bar::new(format!("quantizing {}", recipe.scheme.bits), file.config().blocks.len());
    let summary = recipe::quantize(file, recipe, device, out, &|done| bar.at(done))?;
    let output = ModelInfo::from(&ModelFile::open(out)?);
    Ok(QuantizeReport {
        source: ModelInfo::from(file),
        reduction: file.bytes() as f64 / output.bytes.max(1) as f64,
        output,
        recipe: *recipe,
        device: DeviceInfo::from(device),
        seconds: start.elapsed().as_secs_f64(),
        ragged: summary.ragged,
    })
}
