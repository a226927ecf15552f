//! `wgquant calibrate`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use pollster::block_on;
use wgquant::Error;
use wgquant::calibrate::{Calibration, Calibrator, Sequences, Stats, StatsMeta, StatsPart, warn_of_fewer};
use wgquant::files;
use wgquant::model::{ModelFile, ModelSource};
use wgquant::report::{CalibrateReport, terminal};

use super::args::{GpuArgs, model, refuse};
use super::progress::Bar;
use super::{Verdict, load, out};

/// Gather statistics of a model's activations on a text, to be kept, merged and gone on with
///
/// The model is run as it is: of a quantized one, activations are those behind quantized layers. Memory grows with
/// neither the number nor the length of sequences, but for the keys and values of attention.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("texts").required(true).multiple(true).args(["file", "merge"])))]
pub(super) struct Calibrate {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Text (.txt), documents (.jsonl or .parquet with `text` or `messages`), or token ids (.npy)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where to write the statistics (safetensors)
    #[arg(short, long, value_name = "FILE", default_value = "stats.safetensors")]
    output: PathBuf,
    /// Sequences, drawn from the text [default: 128]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sequences: Option<u32>,
    /// Tokens a sequence [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    sequence_length: Option<u32>,
    /// Seed of the draw [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Leave out documents of fewer tokens [default: 0]
    #[arg(long, value_name = "TOKENS")]
    min_length: Option<usize>,
    /// Also gather the products of channels at the inputs of linear layers, for Hessians: n x n numbers each
    #[arg(long)]
    covariance: bool,
    /// Save after every N sequences [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    save_every: Option<u32>,
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

/// Sequences between two saves, unless given.
const SAVE_EVERY: u32 = 8;

impl Calibrate {
    pub(super) fn run(&self) -> Result<Verdict> {
        if self.file.is_none() {
            let number = |flag: &str, n: Option<u64>| n.map(|n| format!("{flag} {n}"));
            let flags = [
                number("--sequences", self.sequences.map(u64::from)),
                number("--sequence-length", self.sequence_length.map(u64::from)),
                number("--seed", self.seed),
                number("--min-length", self.min_length.map(|n| n as u64)),
                number("--save-every", self.save_every.map(u64::from)),
                self.covariance.then(|| "--covariance".to_owned()),
            ];
            refuse(flags, "without --file: nothing is gathered then")?;
        }
        out::check_place("--output", &self.output)?;
        self.exists()?;
        let claimed = files::claim(&self.output);
        let _claim = claimed.with_context(|| format!("--output {}", self.output.display()))?;
        let exists = self.exists()?; // who had it may have been done just now
        let file = ModelFile::open(&self.model)?;
        let meta = self.meta(&file)?;
        let others = self.others(&meta, exists)?;
        let stats = match &self.file {
            Some(text) => self.gather(&file, text, meta, exists, &others)?,
            None if exists => self.merged(Some(Stats::load(&self.output)?))?,
            None => self.merged(None)?,
        };
        stats.save(&self.output)?;
        out::report(&CalibrateReport::new(&stats, &self.output), self.json, terminal::calibrated)?;
        Ok(Verdict::Passed)
    }

    /// Is there something to go on from? Refuses what nobody asked to go on from.
    fn exists(&self) -> Result<bool> {
        let exists = self.output.symlink_metadata().is_ok();
        if exists && !self.resume {
            bail!("{}: exists; pass --resume to go on from it, or choose another --output", self.output.display());
        }
        Ok(exists)
    }

    /// What the files to be added are of. Refuses what could not be added up or written at the end: better said before hours of
    /// calibration than after.
    fn others(&self, meta: &StatsMeta, exists: bool) -> Result<Vec<(&Path, StatsMeta)>> {
        let real = |path: &Path| path.canonicalize().ok();
        if exists && let Some(path) = self.merge.iter().find(|path| real(path) == real(&self.output)) {
            bail!("--merge {}: is the --output, which is gone on with as it is", path.display());
        }
        // With a text, what is in the output is looked at when it is gone on with.
        let start = Some(&self.output).filter(|_| exists && self.file.is_none());
        let mut all = meta.clone();
        let mut others = Vec::new();
        for (i, path) in start.into_iter().chain(&self.merge).enumerate() {
            let other = Stats::load(path)?.meta;
            // Without a text nothing is gathered, and the files only have to agree with each other.
            if i == 0 && self.file.is_none() {
                all.covariance = other.covariance;
            }
            all.merge(&other).with_context(|| cannot_add(path, &meta.model))?;
            others.push((path.as_path(), other));
        }
        Ok(others)
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

    /// Statistics of `text` with what `--merge` names, whose `others` are.
    fn gather(
        &self,
        file: &ModelFile,
        text: &Path,
        mut meta: StatsMeta,
        exists: bool,
        others: &[(&Path, StatsMeta)],
    ) -> Result<Stats> {
        let texts = load::texts(&self.model, text)?;
        let Calibration { sequences, seed, min_tokens, .. } = Calibration::default();
        let settings = Calibration {
            sequences: self.sequences.map_or(sequences, |n| n as usize),
            length: self.length(),
            seed: self.seed.unwrap_or(seed),
            min_tokens: self.min_length.unwrap_or(min_tokens),
        };
        let mut sequences = Sequences::draw(text, texts.as_ref(), file.config().bos, &settings)?;
        warn_of_fewer(text, &settings, sequences.count());
        load::check_ids(text, &self.model, file, sequences.beyond(file.config().vocab_size)?)?;
        if !others.is_empty() {
            let (all, name) = (sequences.hash(sequences.count())?, load::file_name(text));
            let twice = |other: &StatsMeta| other.parts.iter().any(|part| part.tokens_sha256 == all);
            if let Some((path, _)) = others.iter().find(|(_, other)| twice(other)) {
                let (here, there) = (format!("{name} ({all})"), "the same tokens".to_owned());
                return Err(Error::StatsMismatch { what: "text", here, there }).context(cannot_add(path, &meta.model));
            }
        }
        let device = self.gpu.open()?;
        // Other features are other kernels, whose sums differ in their last bits.
        let with = self.gpu.caps.as_ref().map(|caps| format!(" with {caps}"));
        meta.device = device.name() + &with.unwrap_or_default();
        let mut stats = Stats::new(meta);
        if exists {
            let saved = Stats::load(&self.output)?;
            let added = others.iter().flat_map(|(_, other)| &other.parts);
            let own = without(&saved.meta, &added.collect::<Vec<_>>(), sequences.count());
            goes_on(own.as_ref().unwrap_or(&saved.meta), &stats.meta, &mut sequences, &self.output)?;
            if own.is_some() {
                return Ok(saved);
            }
            stats = saved;
        }
        let engine = load::engine(&self.gpu, &device, file, sequences.length(), load::Settings::default())?;
        self.gpu.check(&device, &Calibrator::needs())?;
        let mut calibrator = Calibrator::new(engine, file.rotation(), stats)?;
        let bar = Bar::new("calibrating", sequences.count());
        for index in done(&calibrator.stats().meta)..sequences.count() {
            bar.at(index);
            block_on(calibrator.sequence(&sequences.get(index)?))?;
            if (index + 1).is_multiple_of(self.save_every.unwrap_or(SAVE_EVERY) as usize) {
                calibrator.stats().save(&self.output)?;
            }
        }
        // Whatever becomes of what is added.
        if !others.is_empty() {
            calibrator.stats().save(&self.output)?;
        }
        self.merged(Some(calibrator.stats().clone()))
    }

    /// Tokens of a sequence.
    fn length(&self) -> usize {
        self.sequence_length.map_or(Calibration::default().length, |n| n as usize)
    }

    /// What this run's statistics are of, but for the device.
    fn meta(&self, file: &ModelFile) -> Result<StatsMeta> {
        let part = StatsPart {
            file: self.file.as_deref().map(load::file_name).unwrap_or_default(),
            tokens_sha256: String::new(),
            sequences: 0,
            length: self.length(),
            tokens: 0,
            seed: self.seed.unwrap_or(Calibration::default().seed),
        };
        Ok(StatsMeta::new(file.checkpoint(), String::new(), self.covariance, part)?)
    }
}

fn cannot_add(path: &Path, model: &str) -> String {
    format!("{}: cannot be added to statistics of {model}", path.display())
}

/// Sequences that the last part has seen.
fn done(meta: &StatsMeta) -> usize {
    meta.parts.last().map_or(0, |p| p.sequences)
}

/// `saved` before what `added` are of was added to all its `sequences`, if that is what was saved: the end of a run.
fn without(saved: &StatsMeta, added: &[&StatsPart], sequences: usize) -> Option<StatsMeta> {
    let (own, rest) = saved.parts.split_first()?;
    let ended = !added.is_empty() && own.sequences == sequences && rest.iter().eq(added.iter().copied());
    ended.then(|| StatsMeta { parts: vec![own.clone()], ..saved.clone() })
}

/// `saved` must be of the same model, switches and first sequences.
fn goes_on(saved: &StatsMeta, new: &StatsMeta, sequences: &mut Sequences, path: &Path) -> Result<()> {
    let mut check = || -> Result<()> {
        saved.same_run(new)?;
        let count = done(saved);
        if count > sequences.count() {
            bail!("holds {count} sequences, and {} are asked for; pass --sequences {count} or more", sequences.count());
        }
        let hash = sequences.hash(count)?;
        let there = saved.parts.last().map_or("", |p| p.tokens_sha256.as_str());
        if hash != there {
            return Err(Error::StatsMismatch { what: "token ids", here: there.to_owned(), there: hash }.into());
        }
        Ok(())
    };
    check().with_context(|| format!("{}: cannot go on from it", path.display()))
}
