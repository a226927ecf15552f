//! `wgquant quantize`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, ValueEnum};
use wgquant::calibrate;
use wgquant::calibrate::Windows;
use wgquant::checkpoint::CheckpointWriter;
use wgquant::gpu::Device;
use wgquant::model::{Group, ModelFile, ModelSource};
use wgquant::quantize::{GptqOptions, QUANTIZER};
use wgquant::recipe::{self, Bits, Module, Preset, Recipe};
use wgquant::report::{DeviceInfo, ModelInfo, QuantizeReport, terminal};

use super::args::{DEVICE, GpuArgs, model, refuse};
use super::progress::Bar;
use super::recipe::{RecipeArgs, check_groups, group, named};
use super::{Verdict, load, out};

/// How codes are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Round to nearest.
    Rtn,
    /// GPTQ, calibrated on --file.
    Gptq,
}

/// Where scales of int8 activations come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scales {
    /// Each token.
    Dynamic,
    /// Calibration.
    Static,
}

/// Quantize a model into a new directory
///
/// Writes compressed-tensors format, with the tokenizer, the recipe, a model card and a manifest of hashes. The directory appears
/// complete or not at all. With calibration the blocks that are done are kept in DIR.unfinished until all are: after an interruption
/// the same command goes on behind them, to the same bytes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("made").required(true).multiple(true).args(["output", "explain"])))]
#[command(group(ArgGroup::new("how").required(true).multiple(true).args(["scheme", "recipe"])))]
pub(super) struct Quantize {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Directory to make; must not exist
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Begin anew where an interrupted run has left blocks in DIR.unfinished
    #[arg(long, requires = "output", conflicts_with = "explain")]
    restart: bool,
    /// Bits of weights and activations
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(["w8a8", "w4a8", "w4a16"]).try_map(|s| s.parse::<Bits>()))]
    scheme: Option<Bits>,
    /// A recipe: w8a8, w4a8, mixed, or a TOML file such as `wgquant search` or another quantized model has
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["scheme", "rotate", "rotate_sites", "rotate_block", "group_size", "fold_norms", "embedding", "seed"])]
    recipe: Option<PathBuf>,
    /// Calibration text: .txt, .jsonl or .parquet with `text` or `messages`, or token ids (.npy)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How codes are chosen [default: what a recipe file says; else gptq with --file, rtn without]
    #[arg(long, value_enum)]
    method: Option<Method>,
    /// Scales of int8 activations: `dynamic` for each token as the model runs, `static` fixed by calibration on --file
    /// [default: what the recipe says; dynamic]
    #[arg(long, value_enum, value_name = "dynamic|static", hide_possible_values = true)]
    activations: Option<Scales>,
    /// Inputs that share a scale of int8 activations: a number, or `channel` for all [default: what the recipe says
    /// when dynamic, `channel` when static]
    #[arg(long, value_name = "N|channel", value_parser = group, requires = "activations")]
    activation_group: Option<Group>,
    /// Of static activations, the share in percent that is not to saturate [default: 100]
    #[arg(long, value_name = "PERCENT", requires = "activations")]
    activation_percentile: Option<f64>,
    /// Calibration sequences [default: the recipe's; 128]
    #[arg(long, value_name = "N")]
    sequences: Option<usize>,
    /// Tokens a calibration sequence [default: the recipe's; 1024]
    #[arg(long, value_name = "N")]
    sequence_length: Option<usize>,
    /// Seed of the draw of sequences [default: the recipe's; 0]
    #[arg(long, value_name = "N")]
    calibration_seed: Option<u64>,
    /// Print which rule of the recipe holds for each weight, and quantize nothing
    #[arg(long)]
    explain: bool,
    /// Print what GPTQ loses in every module, not only the worst (wgquant_losses.json in the output has all)
    #[arg(short, long)]
    verbose: bool,
    /// Compute on the CPU reference: the same bytes on any machine
    #[arg(long)]
    deterministic: bool,
    #[command(flatten)]
    flags: RecipeArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Quantize {
    pub(super) fn run(&self) -> Result<Verdict> {
        if self.file.is_none() {
            let sequences = self.sequences.map(|n| format!("--sequences {n}"));
            let length = self.sequence_length.map(|n| format!("--sequence-length {n}"));
            let seed = self.calibration_seed.map(|n| format!("--calibration-seed {n}"));
            refuse([sequences, length, seed], "without --file, whose text it would draw from")?;
        }
        if self.deterministic {
            let device = &self.gpu.device;
            let other = ![DEVICE, "cpu"].contains(&device.as_str()) && !self.gpu.usual_device();
            refuse([other.then(|| format!("--device {device}"))], "with --deterministic")?;
            self.gpu.refuse_without_gpu("--deterministic")?;
        }
        // Known now, and better said before the work than after.
        if let Some(output) = self.output.as_ref().filter(|_| !self.explain) {
            CheckpointWriter::check(output)?;
        }
        let file = ModelFile::open(&self.model)?;
        recipe::check_original(&file)?;
        let unused = file.unused();
        if !unused.is_empty() && !self.explain {
            log::warn!(
                "{} tensors are no part of the model that config.json describes and will be left out: {}",
                unused.len(),
                some(&unused)
            );
        }
        let recipe = self.recipe(&file)?;
        let modules = self.modules(&file, &recipe)?;
        let Some(output) = self.output.as_ref().filter(|_| !self.explain) else {
            out::report(&modules, self.json, |m| terminal::explained(m, &recipe))?;
            return Ok(Verdict::Passed);
        };
        let calibration = self.calibration(&file, &recipe, &modules)?;
        let device = match self.deterministic {
            true => Device::Cpu,
            false => self.gpu.open()?,
        };
        self.gpu.check(&device, &QUANTIZER)?;
        let name = self.scheme.map_or_else(|| "by recipe".to_owned(), |s| s.to_string());
        if self.restart {
            recipe::discard_unfinished(output)?;
        }
        let text = self.file.as_deref().map(load::file_name).unwrap_or_default();
        let calibration = calibration.as_ref().map(|windows| (&text[..], windows));
        let report = quantize(&file, &recipe, &device, calibration, &name, output)?;
        if !report.ragged.is_empty() {
            log::warn!(
                "{} modules have rows that are no whole number of groups; wgquant runs the model, transformers and \
                 vLLM refuse it: {}",
                report.ragged.len(),
                report.ragged.join(", ")
            );
        }
        let said = out::report(&report, self.json, |r| terminal::quantized(r, self.verbose));
        said.with_context(|| format!("{} is written, but the report of it is not", output.display()))?;
        Ok(Verdict::Passed)
    }

    fn recipe(&self, file: &ModelFile) -> Result<Recipe> {
        let mut recipe = match (&self.recipe, self.scheme) {
            (Some(name), _) => {
                let preset = name.to_str().and_then(Preset::named).is_some();
                if preset && self.file.is_none() && self.method != Some(Method::Rtn) {
                    log::warn!(
                        "no calibration text (--file): weights are rounded to nearest, which loses several times more"
                    );
                }
                named(name, file, self.file.is_some())?
            }
            (None, Some(scheme)) => {
                let recipe = self.flags.recipe(scheme, file)?;
                Recipe { gptq: self.file.as_ref().map(|_| GptqOptions::default()), ..recipe }
            }
            (None, None) => bail!("--scheme or --recipe is needed"),
        };
        recipe.gptq = match self.method {
            Some(Method::Rtn) => None,
            Some(Method::Gptq) => Some(recipe.gptq.unwrap_or_default()),
            None => recipe.gptq,
        };
        self.round_activations(&mut recipe)?;
        let c = &mut recipe.calibration;
        c.sequences = self.sequences.unwrap_or(c.sequences);
        c.length = self.sequence_length.unwrap_or(c.length);
        c.seed = self.calibration_seed.unwrap_or(c.seed);
        Ok(recipe)
    }

    /// What the flags say of int8 activations, over what the recipe says.
    fn round_activations(&self, recipe: &mut Recipe) -> Result<()> {
        if self.activations.is_some() && !recipe.rules.iter().any(|r| r.activations.int8()) {
            bail!("--activations: no inputs are int8 in what is asked for; choose w8a8, w4a8 or such a recipe");
        }
        match (self.activations, self.activation_percentile) {
            (None, _) => {}
            (Some(Scales::Static), percentile) => {
                recipe.fix_activations(self.activation_group.unwrap_or(Group::Channel), percentile);
            }
            (Some(Scales::Dynamic), Some(_)) => bail!("--activation-percentile: only static activations have one"),
            (Some(Scales::Dynamic), None) => recipe.free_activations(self.activation_group),
        }
        Ok(())
    }

    /// What becomes of each weight, with a word where that is not what was asked for.
    fn modules(&self, file: &ModelFile, recipe: &Recipe) -> Result<Vec<Module>> {
        let modules = recipe.modules(file.config());
        let modules = match &self.recipe {
            Some(name) => modules.with_context(|| name.display().to_string())?,
            None => modules?,
        };
        for (i, rule) in recipe.rules.iter().enumerate().filter(|(i, _)| modules.iter().all(|m| m.rule != Some(*i))) {
            log::warn!("rule {i} ({}) holds nowhere: later rules match all that it does", rule.modules.join(", "));
        }
        let by_group = |m: &Module| m.weights.filter(|f| f.bits == 4).map(|f| f.group);
        check_groups("--group-size", self.flags.group_size, &modules, by_group)?;
        check_groups("--activation-group", self.activation_group, &modules, |m| m.activations.group())?;
        if let Some([one, other]) = recipe.parted(&modules) {
            log::warn!(
                "`{}` and `{}` differ in form, but vLLM makes one layer of queries, keys and values, in the queries' form: not for vLLM",
                one.name,
                other.name
            );
        }
        Ok(modules)
    }

    fn calibration(&self, file: &ModelFile, recipe: &Recipe, modules: &[Module]) -> Result<Option<Windows>> {
        match (&self.file, recipe.calibrates(modules)) {
            (None, None) => Ok(None),
            (Some(path), None) => {
                log::warn!("{}: not read, as nothing is calibrated", path.display());
                Ok(None)
            }
            (None, Some(what)) => bail!("{what} needs calibration text: pass --file FILE (.txt, .jsonl or .npy)"),
            (Some(path), Some(_)) => {
                let texts = load::texts(&self.model, path)?;
                let windows = calibrate::sample(path, texts.as_ref(), file.config().bos, &recipe.calibration)?;
                load::check_ids(path, &self.model, file, windows.beyond(file.config().vocab_size))?;
                Ok(Some(windows))
            }
        }
    }
}

/// The first few of `names`.
fn some(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let rest = if names.len() > SHOWN { ", .." } else { "" };
    names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ") + rest
}

/// Quantizes with a progress bar, and opens the result to describe it.
pub(super) fn quantize(
    file: &ModelFile,
    recipe: &Recipe,
    device: &Device,
    calibration: Option<(&str, &Windows)>,
    name: &str,
    out: &Path,
) -> Result<QuantizeReport> {
    let start = Instant::now();
    let bar = Bar::new(format!("quantizing {name}"), file.config().blocks.len());
    let (summary, losses) = recipe::quantize(file, recipe, device, calibration, out, &|done| bar.at(done))?;
    let output = ModelInfo::from(&ModelFile::open(out)?);
    Ok(QuantizeReport {
        source: ModelInfo::from(file),
        reduction: file.bytes() as f64 / output.bytes.max(1) as f64,
        output,
        recipe: recipe.clone(),
        device: DeviceInfo::from(device),
        seconds: start.elapsed().as_secs_f64(),
        ragged: summary.ragged,
        losses,
    })
}
