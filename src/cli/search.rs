//! `wgquant search`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use sha2::{Digest, Sha256};
use wgquant::calibrate::{self, Calibration, Sequences, Windows};
use wgquant::gpu::Device;
use wgquant::model::{Activations, Group, ModelFile, ModelSource};
use wgquant::quantize::{Format, GptqOptions, QUANTIZER};
use wgquant::recipe::{Module, Recipe, transformed};
use wgquant::report::{DeviceInfo, ModelInfo, SearchReport, html, terminal};
use wgquant::search::{self, Budget, MeasuredKl, Plan, Question, Survey};

use super::args::{GpuArgs, model, refuse, size};
use super::progress::Bar;
use super::recipe::{TransformArgs, check_groups, group};
use super::{Verdict, load, out};

/// Find out which weights need how many bits, and write the recipe of least loss within a budget
///
/// Measures once, on calibration text, what each weight costs in each form (kept in the --sensitivity file, which takes up
/// an interrupted search again and answers for other budgets at once). Then `wgquant quantize --recipe` does it.
#[derive(Debug, Args)]
pub(super) struct Search {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Calibration text: .txt, .jsonl or .parquet with `text` or `messages`, or token ids (.npy)
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Recipe to write
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Budget: bits per parameter, everything included
    #[arg(long, value_name = "BITS", group = "budget")]
    target_bpw: Option<f64>,
    /// Budget: size of all tensors, such as 4GiB or 17.5MB: k, m, g, t and kib .. are powers of 1024, kb .. of 1000
    #[arg(long, value_name = "SIZE", group = "budget", value_parser = size)]
    target_size: Option<u64>,
    /// Budget: the smallest model of at most this predicted KL, nats a token. Of rounded weights alone, on sequences that
    /// calibrate: other text, int8 activations, and states and caches that are not f32 when the model runs, add to it
    /// (--measure)
    #[arg(long, value_name = "NATS", group = "budget")]
    max_kld: Option<f64>,
    /// Also quantize the model as the recipe found says, in memory, and measure its KL, activations rounded too, on as many
    /// sequences as --probes says, drawn beyond those that calibrate; warns where that is above --max-kld. Takes as long as
    /// `wgquant quantize`. Where --file holds no more sequences, it is measured on those that calibrate, and says so: other
    /// text (`wgquant perplexity --base`) then has a higher KL
    #[arg(long, requires = "budget")]
    measure: bool,
    /// Bits to choose from: 2 to 8, or 16 for floats
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "3,4,5,6,8", value_parser = bits)]
    bits: Vec<usize>,
    /// Groups to choose from below 8 bits [default: 32]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    groups: Option<Vec<usize>>,
    /// Inputs that share an int8 activation scale, and channels of a block of the rotations at run time: a number, or `channel`
    /// for a whole token (as --rotate-block says)
    #[arg(long, value_name = "N|channel", default_value = "32", value_parser = group)]
    activation_group: Group,
    /// File that keeps what was measured [default: the output's name with .sensitivity.json]
    #[arg(long, value_name = "FILE.json")]
    sensitivity: Option<PathBuf>,
    /// Sequences on which KL is measured, of those that calibrate; for --measure as many beyond them
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    probes: u32,
    /// Calibration sequences
    #[arg(long, value_name = "N", default_value_t = 128)]
    sequences: usize,
    /// Tokens a calibration sequence
    #[arg(long, value_name = "N", default_value_t = 1024)]
    sequence_length: usize,
    /// Seed of the draw of sequences
    #[arg(long, value_name = "N", default_value_t = 0)]
    calibration_seed: u64,
    /// Also write the front of sizes as an HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    flags: TransformArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Search {
    pub(super) fn run(&self) -> Result<Verdict> {
        let start = Instant::now();
        let file = ModelFile::open(&self.model)?;
        let budget = self.budget()?;
        for (flag, path) in [("--output", &self.output), ("--html", &self.html)] {
            path.as_ref().map_or(Ok(()), |path| out::check_file(flag, path))?;
        }
        // A file that is there is gone on with, and refused where it is not of a search.
        self.kept().map_or(Ok(()), |path| out::check_place("--sensitivity", &path))?;
        self.check_apart()?;
        if !self.bits.iter().any(|bits| *bits < 8) {
            refuse([self.groups.as_ref().map(|_| "--groups".to_owned())], "unless --bits has some below 8")?;
        }
        let base = self.base(&file)?;
        let activations = Activations::Int8(self.activation_group);
        let formats = search::formats(&self.bits, self.groups.as_deref().unwrap_or(&[32]));
        let Some(probe) = probe(&formats) else { bail!("--bits: floats alone are nothing to choose from") };
        let candidates = search::candidates(&base, file.config(), &formats, activations)?;
        if let Some(modules) = candidates.get(probe) {
            check_groups("--activation-group", Some(self.activation_group), modules, |m| m.activations.group())?;
        }
        let (calibration, beyond) = self.draw(&file, &base.calibration)?;
        let device = self.gpu.open()?;
        let fingerprint = self.fingerprint(&device, &file, &base, &formats, &calibration)?;
        self.gpu.check(&device, &QUANTIZER)?;
        let survey = self.survey(&device, &file, &base, &candidates, probe, &calibration, fingerprint)?;
        let plan = Plan::new(&base, &file, &survey, activations)?;
        let chosen = budget.map(|b| plan.within(b)).transpose()?;
        if let (Some(path), Some(chosen)) = (&self.output, &chosen) {
            out::save(path, &chosen.recipe.to_toml()?)?;
        }
        let measured = match &chosen {
            Some(chosen) if self.measure => {
                Some(self.measured(&device, &file, &chosen.recipe, &calibration, beyond)?)
            }
            _ => None,
        };
        let report = SearchReport {
            measured,
            model: ModelInfo::from(&file),
            device: DeviceInfo::from(&device),
            front: plan.points(),
            chosen,
            recipe_file: self.output.as_ref().map(|p| p.display().to_string()),
            seconds: start.elapsed().as_secs_f64(),
        };
        if let Some(path) = &self.html {
            out::save(path, &html::search(&report))?;
        }
        out::report(&report, self.json, terminal::search)?;
        Ok(Verdict::Passed)
    }

    /// Refuses one file for two things.
    fn check_apart(&self) -> Result<()> {
        let kept = self.kept();
        let all = [("--output", &self.output), ("--sensitivity", &kept), ("--html", &self.html)];
        let named: Vec<(&str, PathBuf)> =
            all.into_iter().filter_map(|(f, p)| Some((f, out::place(p.as_ref()?)))).collect();
        for (i, (flag, path)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..i].iter().find(|(_, p)| p == path) {
                bail!("{flag} {}: is the file of {other} too; name another", path.display());
            }
        }
        Ok(())
    }

    fn budget(&self) -> Result<Option<Budget>> {
        for (flag, value) in [("--target-bpw", self.target_bpw), ("--max-kld", self.max_kld)] {
            if let Some(v) = value.filter(|v| !v.is_finite() || *v <= 0.0) {
                bail!("{flag}: {v} is no number above 0");
            }
        }
        let budget = self.target_bpw.map(Budget::BitsPerParameter);
        let budget = budget.or(self.target_size.map(Budget::Bytes)).or(self.max_kld.map(Budget::Kl));
        if budget.is_none() && self.output.is_some() {
            bail!("--output needs a budget: --target-bpw, --target-size or --max-kld");
        }
        Ok(budget)
    }

    /// The recipe but for its rules: rotated in blocks as large as the activations' groups, and smoothed, as the presets are.
    fn base(&self, file: &ModelFile) -> Result<Recipe> {
        let block = match self.activation_group {
            Group::Size(block) => Some(block),
            Group::Channel => None,
        };
        let transform = self.flags.transform(file, block)?;
        let calibration = Calibration {
            sequences: self.sequences,
            length: self.sequence_length,
            seed: self.calibration_seed,
            ..Calibration::default()
        };
        Ok(Recipe {
            float: file.float_dtype(),
            calibration,
            gptq: Some(GptqOptions::default()),
            transform: transform.smoothed(),
            rules: Vec::new(),
        })
    }

    /// The sequences that calibrate, and those beyond them on which the recipe found is measured.
    fn draw(&self, file: &ModelFile, settings: &Calibration) -> Result<(Windows, Windows)> {
        let texts = load::texts(&self.model, &self.file)?;
        // A longer draw begins with a shorter one's sequences; of none nothing is drawn.
        let more = if self.measure && settings.sequences > 0 { self.probes as usize } else { 0 };
        let all = Calibration { sequences: settings.sequences.saturating_add(more), ..*settings };
        let mut drawn = Sequences::draw(&self.file, texts.as_ref(), file.config().bos, &all)?.windows()?;
        calibrate::warn_of_fewer(&self.file, settings, drawn.0.len());
        load::check_ids(&self.file, &self.model, file, drawn.beyond(file.config().vocab_size))?;
        let beyond = drawn.0.split_off(settings.sequences.min(drawn.0.len()));
        Ok((drawn, Windows(beyond)))
    }

    /// Everything that the figures depend on.
    fn fingerprint(
        &self,
        device: &Device,
        file: &ModelFile,
        base: &Recipe,
        formats: &[Option<Format>],
        calibration: &Windows,
    ) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(file.checkpoint().fingerprint()?.to_string());
        hash.update(base.to_toml()?);
        hash.update(serde_json::to_string(formats)?);
        hash.update(format!("{} {} {}", self.probes, env!("CARGO_PKG_VERSION"), device.name()));
        calibration.0.iter().flatten().for_each(|id| hash.update(id.to_le_bytes()));
        Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
    }

    #[allow(clippy::too_many_arguments, reason = "what a question is made of")]
    fn survey(
        &self,
        device: &Device,
        file: &ModelFile,
        base: &Recipe,
        candidates: &[Vec<Module>],
        probe: usize,
        calibration: &Windows,
        fingerprint: String,
    ) -> Result<Survey> {
        let kept = self.kept();
        let before = kept.as_deref().map(|path| read(path, &fingerprint, candidates, base)).transpose()?.flatten();
        let source = transformed(file, base, device, Some(calibration))?;
        let probes = self.probes(calibration);
        let question = Question {
            source: &source,
            candidates,
            probe,
            float: base.float,
            options: base.gptq.unwrap_or_default(),
            calibration,
            probes: &probes,
        };
        let survey = before.unwrap_or(Survey { fingerprint, modules: Vec::new() });
        let bar = Bar::new("measuring", candidates.first().map_or(0, Vec::len));
        let done = &mut |survey: &Survey| {
            bar.at(survey.modules.len());
            let Some(path) = &kept else { return Ok(()) };
            let text = serde_json::to_string_pretty(survey).map_err(anyhow::Error::from);
            text.and_then(|text| out::save(path, &text))
                .map_err(|e| wgquant::Error::argument("--sensitivity", format!("{e:#}")))
        };
        Ok(search::survey(device, &question, survey, done)?)
    }

    /// The sequences on which the KL of each weight is measured.
    fn probes(&self, calibration: &Windows) -> Windows {
        Windows(calibration.0.iter().take(self.probes as usize).cloned().collect())
    }

    /// What the recipe found costs as a model, on sequences `beyond` those that calibrate where there are any. Says so where
    /// that is more than was allowed.
    fn measured(
        &self,
        device: &Device,
        file: &ModelFile,
        recipe: &Recipe,
        calibration: &Windows,
        beyond: Windows,
    ) -> Result<MeasuredKl> {
        let bar = Bar::new("quantizing", file.config().blocks.len());
        let probes = if beyond.0.is_empty() { self.probes(calibration) } else { beyond };
        let measured = search::measure(device, file, recipe, calibration, &probes, &|n| bar.at(n))?;
        if let Some(bound) = self.max_kld.filter(|bound| measured.mean_kl > *bound) {
            let text = if measured.calibrated { "" } else { ", on text that does not calibrate," };
            log::warn!(
                "--max-kld {bound} is of rounded weights on text that calibrates; with activations rounded too{text} the model has a KL of {:.3e} nats",
                measured.mean_kl
            );
        }
        Ok(measured)
    }

    fn kept(&self) -> Option<PathBuf> {
        let beside = || self.output.as_ref().map(|p| p.with_extension("sensitivity.json"));
        self.sensitivity.clone().or_else(beside)
    }
}

/// The form whose KL is measured: of 4 bits, or the nearest there is.
fn probe(formats: &[Option<Format>]) -> Option<usize> {
    let distance = |f: &Format| f.bits.abs_diff(4);
    let bits = formats.iter().enumerate().filter_map(|(i, f)| f.map(|f| (i, distance(&f))));
    bits.min_by_key(|(_, d)| *d).map(|(i, _)| i)
}

/// What an earlier search left, if it asked the same. A file may have been changed since.
fn read(path: &Path, fingerprint: &str, candidates: &[Vec<Module>], base: &Recipe) -> Result<Option<Survey>> {
    if !path.exists() {
        return Ok(None);
    }
    let survey = Survey::load(path)?;
    if survey.fingerprint != fingerprint {
        bail!(
            "{} answers another question (its fingerprint is {}, this one's {fingerprint}): another model, text or \
             setting; name another --sensitivity file or remove it",
            path.display(),
            survey.fingerprint
        );
    }
    survey.check(candidates, base.float).with_context(|| format!("{}: was changed or damaged", path.display()))?;
    Ok(Some(survey))
}

/// `--bits`.
fn bits(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (2..=8).contains(&n) || n == 16 => Ok(n),
        _ => Err("not 2 to 8, nor 16".to_owned()),
    }
}
