//! `wgquant calibrate`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pollster::block_on;
use wgquant::Error;
use wgquant::calibrate::{Calibration, Calibrator, Sequences, Stats, StatsMeta, StatsPart, chain};
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::{CalibrateReport, terminal};

use super::args::GpuArgs;
use super::progress::Bar;
use super::{Verdict, load, out};

/// Gather statistics of a model's activations on a text, to be kept, merged and gone on with
///
/// The model is run as it is: of a quantized one, activations are those behind quantized layers. Memory grows with
/// neither the number nor the length of sequences, but for the keys and values of attention.
#[derive(Debug, Args)]
pub(super) struct Calibrate {
    /// Model directory
    model: PathBuf,
    /// Text (.txt), documents (.jsonl or .parquet with `text` or `messages`), or token ids (.npy)
    #[arg(short, long, value_name = "FILE", required_unless_present = "merge")]
    file: Option<PathBuf>,
    /// Where to write the statistics (safetensors)
    #[arg(short, long, value_name = "FILE", default_value = "stats.safetensors")]
    output: PathBuf,
    /// Sequences, drawn from the text
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    sequences: u32,
    /// Tokens a sequence
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    sequence_length: u32,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Leave out documents of fewer tokens
    #[arg(long, value_name = "TOKENS", default_value_t = 0)]
    min_length: usize,
    /// Also gather the products of channels at the inputs of linear layers, for Hessians: n x n numbers each
    #[arg(long)]
    covariance: bool,
    /// Save after every N sequences
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    save_every: u32,
    /// Go on from what the output file holds; the result is the same as without the interruption
    #[arg(long)]
    resume: bool,
    /// Add these statistics of other texts and the same model
    #[arg(long, value_name = "FILE")]
    merge: Vec<PathBuf>,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Calibrate {
    pub(super) fn run(&self) -> Result<Verdict> {
        let exists = self.output.symlink_metadata().is_ok();
        if exists && !self.resume {
            bail!("{}: exists; pass --resume to go on from it, or choose another --output", self.output.display());
        }
        let file = ModelFile::open(&self.model)?;
        let meta = self.meta(&file)?;
        self.check(&meta, exists)?;
        let stats = match &self.file {
            Some(text) => Some(self.gather(&file, text, meta, exists)?),
            None if exists => Some(Stats::load(&self.output)?),
            None => None,
        };
        let stats = self.merged(stats)?;
        stats.save(&self.output)?;
        out::report(&CalibrateReport::new(&stats, &self.output), self.json, terminal::calibrated)?;
        Ok(Verdict::Passed)
    }

    /// Refuses what could not be added up or written at the end: better said before hours of calibration than after.
    fn check(&self, meta: &StatsMeta, exists: bool) -> Result<()> {
        out::check_place("--output", &self.output)?;
        // With a text, what is in the output is looked at when it is gone on with.
        let start = Some(&self.output).filter(|_| exists && self.file.is_none());
        let mut all = meta.clone();
        for (i, path) in start.into_iter().chain(&self.merge).enumerate() {
            let other = Stats::load(path)?.meta;
            // Without a text nothing is gathered, and the files only have to agree with each other.
            if i == 0 && self.file.is_none() {
                all.covariance = other.covariance;
            }
            all.merge(&other)
                .with_context(|| format!("{}: cannot be added to statistics of {}", path.display(), meta.model))?;
        }
        Ok(())
    }

    /// What `--merge` names added to `stats`.
    fn merged(&self, mut stats: Option<Stats>) -> Result<Stats> {
        for path in &self.merge {
            let other = Stats::load(path)?;
            match &mut stats {
                Some(all) => all.merge(&other).with_context(|| format!("--merge {}", path.display()))?,
                None => stats = Some(other),
            }
        }
        stats.context("--file or --merge is needed")
    }

    fn gather(&self, file: &ModelFile, text: &Path, mut meta: StatsMeta, exists: bool) -> Result<Stats> {
        let texts = load::texts(&self.model)?;
        let settings = Calibration {
            sequences: self.sequences as usize,
            length: self.sequence_length as usize,
            seed: self.seed,
            min_tokens: self.min_length,
        };
        let mut sequences = Sequences::draw(text, texts.as_ref(), file.config().bos, &settings)?;
        let device = self.gpu.open()?;
        meta.device = device.name();
        let mut stats = Stats::new(meta);
        if exists {
            stats = goes_on(Stats::load(&self.output)?, &stats.meta, &mut sequences, &self.output)?;
        }
        let engine = load::engine(&self.gpu, &device, file, sequences.length(), load::Settings::default())?;
        self.gpu.check(&device, &Calibrator::needs())?;
        let mut calibrator = Calibrator::new(engine, file.rotation(), stats)?;
        let bar = Bar::new("calibrating", sequences.count());
        for index in done(calibrator.stats())..sequences.count() {
            bar.at(index);
            block_on(calibrator.sequence(&sequences.get(index)?))?;
            if (index + 1).is_multiple_of(self.save_every as usize) {
                calibrator.stats().save(&self.output)?;
            }
        }
        Ok(calibrator.stats().clone())
    }

    /// What this run's statistics are of, but for the device.
    fn meta(&self, file: &ModelFile) -> Result<StatsMeta> {
        let part = StatsPart {
            file: self.file.as_deref().map(load::file_name).unwrap_or_default(),
            tokens_sha256: String::new(),
            sequences: 0,
            length: self.sequence_length as usize,
            tokens: 0,
            seed: self.seed,
        };
        Ok(StatsMeta::new(file.checkpoint(), String::new(), self.covariance, part)?)
    }
}

/// Sequences that the last part has seen.
fn done(stats: &Stats) -> usize {
    stats.meta.parts.last().map_or(0, |p| p.sequences)
}

/// `saved`, which must be of the same model, switches and first sequences.
fn goes_on(saved: Stats, new: &StatsMeta, sequences: &mut Sequences, path: &Path) -> Result<Stats> {
    let mut check = || -> Result<()> {
        saved.meta.same_run(new)?;
        let count = done(&saved);
        if count > sequences.count() {
            bail!("holds {count} sequences, and {} are asked for; pass --sequences {count} or more", sequences.count());
        }
        let mut hash = String::new();
        for index in 0..count {
            hash = chain(&hash, &sequences.get(index)?);
        }
        let there = saved.meta.parts.last().map_or("", |p| p.tokens_sha256.as_str());
        if hash != there {
            return Err(Error::StatsMismatch { what: "token ids", here: there.to_owned(), there: hash }.into());
        }
        Ok(())
    };
    check().with_context(|| format!("{}: cannot go on from it", path.display()))?;
    Ok(saved)
}
