//! `wgquant tune`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use wgquant::bench::{WARM_UP, Warmer, contests, tune};
use wgquant::kernels::trust::Cache;
use wgquant::kernels::tuned;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::tune::tune_markdown;
use wgquant::runtime::{Engine, EngineOptions};

use super::args::{GpuArgs, model, seconds};
use super::progress::Bar;
use super::{Verdict, out, synth};

/// What takes its place must be faster by this much: noise is not to choose.
const MARGIN: f64 = 0.03;

/// Choose the fastest variant of each kernel on this GPU, for a model's launches
///
/// Times every variant that the adapter has of each kernel, format and size that prompts and tokens of the model dispatch,
/// and writes the choices where all commands find them; -o writes them elsewhere, for --tune. Choices that are there for other
/// launches stay. Without a model, nothing is
/// known to be launched.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("tuned").required(true).multiple(true).args(["model", "synth"])))]
pub(super) struct Tune {
    /// Model directory
    #[arg(conflicts_with = "shape", value_parser = model())]
    model: Option<PathBuf>,
    /// Or a published shape with random weights, held in memory; see `wgquant synth`
    #[arg(long, value_name = "NAME|DIR", conflicts_with = "model")]
    synth: Option<String>,
    #[command(flatten)]
    shape: synth::Shape,
    /// Tokens of a prompt's pass
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    ubatch_size: u32,
    /// Sequences that decode together, to choose for them too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    sequences: u32,
    /// Times that each is run; the median counts
    #[arg(short, long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    repetitions: u32,
    /// Seconds that a GPU is kept busy before each kernel
    #[arg(long, value_name = "SECONDS", default_value_t = WARM_UP, value_parser = seconds)]
    warm_up: f64,
    /// Write the choices here instead of the cache
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON: the file that is written
    #[arg(long)]
    json: bool,
}

impl Tune {
    pub(super) fn run(&self) -> Result<Verdict> {
        if let Some(file) = &self.output {
            out::check_file("--output", file)?;
        }
        let source: Box<dyn ModelSource> = match (&self.synth, &self.model) {
            (Some(name), _) => Box::new(self.shape.source("--synth", name)?),
            (None, Some(dir)) => Box::new(ModelFile::open(dir)?),
            (None, None) => bail!("neither a model nor --synth"),
        };
        let device = self.gpu.open()?;
        let Some(gpu) = device.gpu() else { bail!("--device cpu: the reference has no variants to choose from") };
        let place = self.output.clone().or_else(|| Cache::user().tuned(gpu));
        let place = place.context("there is no cache directory (no HOME): pass -o FILE")?;
        tuned::writable(&place).context("the choices could not be kept; pass -o FILE, or set WGQUANT_CACHE_DIR")?;
        let pass_tokens = self.ubatch_size as usize;
        let sequences = self.sequences as usize;
        let options = EngineOptions { context: pass_tokens.max(2), pass_tokens, sequences, ..Default::default() };
        let engine = Engine::new(&device, &*source, options)?;
        self.gpu.check(&device, &engine.needs()?)?;
        let contests = contests(&engine.plans()?);
        let bar = Bar::new("tuning", contests.len());
        let warmer = Warmer::new(&device, self.warm_up)?;
        let choices = tune(contests, &warmer, self.repetitions as usize, MARGIN, &mut |done| bar.at(done))?;
        drop(bar);
        let file = tuned::file(gpu, &place, &choices);
        // What was measured is said, whatever becomes of the file.
        let written = tuned::write(&place, &file);
        out::report(&file, self.json, |_| tune_markdown(&choices))?;
        written?;
        out::say(format_args!("choices: {}", place.display()));
        Ok(Verdict::Passed)
    }
}
