//! `wgquant diff`.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::Args;
use clap::builder::{StringValueParser, TypedValueParser};
use pollster::block_on;
use wgquant::Error;
use wgquant::calibrate::StatsMeta;
use wgquant::checkpoint::locate;
use wgquant::eval::{Activations, Between, diff, record};
use wgquant::gpu::{Device, DeviceChoice};
use wgquant::model::{ModelFile, ModelSource};
use wgquant::recipe::rewrites;
use wgquant::report::{DiffReport, terminal};
use wgquant::runtime::Engine;
use wgquant::transform::Transform;

use super::args::{GpuArgs, model, refuse};
use super::generation::encode;
use super::{Verdict, load, out};

/// Find the first layer and op where two configurations of one prompt part
///
/// Each op is judged on the other run's inputs, so that its error is its own. Exit code 1 when one passes its
/// tolerance. By default a GPU is compared with the CPU reference.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// Model directory
    #[arg(value_parser = model())]
    model: PathBuf,
    /// Prompt; a file with input_ids needs none
    #[arg(short, long, allow_hyphen_values = true)]
    prompt: Option<String>,
    /// `cpu` (the reference), `gpu`, an adapter's name, another model (such as the original), or a
    /// .safetensors file of activations [default: cpu; with --against-caps the same device]
    #[arg(long, value_name = "WHAT", value_parser = StringValueParser::new().map(in_cache))]
    against: Option<String>,
    /// Features of the adapter the other run uses, as in --caps
    #[arg(long, value_name = "LIST")]
    against_caps: Option<String>,
    /// Largest error (NMSE) of any op, instead of the table of tolerances
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    tolerance: Option<f64>,
    /// Write the run's activations, to be compared on another machine; where the run is the reference itself, such as with --device cpu,
    /// nothing else is done
    #[arg(long, value_name = "FILE.safetensors")]
    dump: Option<PathBuf>,
    /// Show every op, not only the worst of each layer
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    gpu: GpuArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the run is judged by.
struct Reference {
    name: String,
    /// Is it of the same model?
    same_model: bool,
    activations: Activations,
}

impl Diff {
    pub(super) fn run(&self) -> Result<Verdict> {
        if let Some(t) = self.tolerance.filter(|t| !t.is_finite() || *t < 0.0) {
            bail!("--tolerance {t}: is no number of 0 or more, such as 1e-8");
        }
        let against = self.against();
        if is_file(against) {
            let caps = self.against_caps.as_ref().map(|caps| format!("--against-caps {caps}"));
            refuse([caps], &format!("with --against {against}, which holds what another run left"))?;
        }
        if let Some(path) = &self.dump {
            out::check_file("--dump", path)?;
        }
        let file = ModelFile::open(&self.model)?;
        let transform = known(&file)?;
        let given = self.prompt.as_deref().map(|prompt| tokens(&file, prompt)).transpose()?;
        let prompt = || anyhow!("--prompt: is needed, unless --against is a file of activations");
        if let Some(path) = self.dump.as_ref().filter(|_| self.is_own(against)) {
            let (tokens, device) = (given.ok_or_else(prompt)?, self.own_device(against)?);
            let mut run = engine(&device, &file, tokens.len())?;
            dump(path, &file, &mut run, &tokens, None, transform)?;
            let run = describe(&self.model, &device);
            let report = DiffReport::new(run, path.display().to_string(), tokens.len(), Vec::new());
            out::report(&report, self.json, |r| terminal::diff(r, self.all))?;
            return Ok(Verdict::Passed);
        }
        let (reference, device) = match against {
            path if is_file(path) => (stored(&file, path, given.as_deref())?, self.own_device(path)?),
            other => {
                let given = given.ok_or_else(prompt)?;
                let device = self.own_device(other)?;
                (self.other_run(&file, other, &device, given)?, device)
            }
        };
        let Activations { tokens, next, taps, transform: other, .. } = &reference.activations;
        let between = match reference.same_model {
            true => Between::Devices,
            false => Between::Models { run: transform.as_ref(), reference: other.as_ref() },
        };
        let tokens = tokens.as_ref().ok_or_else(|| anyhow!("--prompt: is needed, {against} holds no input_ids"))?;
        let mut engine = engine(&device, &file, tokens.len())?;
        let next = next.unwrap_or(0);
        if let Some(path) = &self.dump {
            dump(path, &file, &mut engine, tokens, Some(next), transform)?;
        }
        let ops = block_on(diff(&mut engine, tokens, next, taps, between, self.tolerance))?;
        let run = describe(&self.model, &device);
        let report = DiffReport::new(run, reference.name, tokens.len(), ops);
        out::report(&report, self.json, |r| terminal::diff(r, self.all))?;
        Ok(if report.culprit.is_some() { Verdict::Failed } else { Verdict::Passed })
    }

    /// Is what to compare with the run itself?
    fn is_own(&self, against: &str) -> bool {
        against == self.gpu.device && self.against_caps.is_none() && !Path::new(against).exists()
    }

    /// What to compare with.
    fn against(&self) -> &str {
        match (&self.against, &self.against_caps) {
            (Some(against), _) => against,
            (None, Some(_)) => &self.gpu.device,
            (None, None) => "cpu",
        }
    }

    /// Runs the prompt on the other device, or the other model on this device.
    fn other_run(&self, file: &ModelFile, against: &str, device: &Device, tokens: Vec<u32>) -> Result<Reference> {
        let dir = PathBuf::from(against);
        let (same_model, model, other) = if dir.is_dir() {
            let other = if self.against_caps.is_some() { self.device(&self.gpu.device)? } else { device.clone() };
            (false, ModelFile::open(&dir)?, other)
        } else {
            if self.is_own(against) {
                bail!(
                    "--against {against}: is what the run itself uses; pass another device, a model or --against-caps, or --dump alone"
                );
            }
            let device = self.device(against).map_err(|e| match e.downcast_ref() {
                Some(Error::NoAdapter { .. }) => e.context(match locate(against.into()) {
                    Ok(_) => format!("--against {against}: is no directory, and as a device"),
                    Err(none) => format!("--against {none}; and as a device"),
                }),
                _ => e,
            })?;
            (true, ModelFile::open(file.checkpoint().dir())?, device)
        };
        let transform = known(&model)?;
        let mut engine = engine(&other, &model, tokens.len())?;
        let (taps, next) = block_on(record(&mut engine, &tokens, None, &[]))?;
        let activations = Activations { tokens: Some(tokens), next: Some(next), model_sha256: None, transform, taps };
        Ok(Reference { name: describe(model.checkpoint().dir(), &other), same_model, activations })
    }

    /// The run's own device. On the CPU a memory limit is the other run's, where that has another device.
    fn own_device(&self, against: &str) -> Result<Device> {
        let cpu = |name: &str| DeviceChoice::from(name) == DeviceChoice::Cpu;
        let others = cpu(&self.gpu.device) && !cpu(against) && !Path::new(against).exists();
        GpuArgs { memory_limit: self.gpu.memory_limit.filter(|_| !others), ..self.gpu.clone() }.open()
    }

    /// The other run's device. Choices of variants are of one adapter and its features, so those of a file are not for it.
    fn device(&self, name: &str) -> Result<Device> {
        let choice = DeviceChoice::from(name);
        if let (DeviceChoice::Cpu, Some(caps)) = (&choice, &self.against_caps) {
            bail!("--against-caps {caps}: the CPU reference has no features to choose from");
        }
        GpuArgs {
            device: name.to_owned(),
            caps: self.against_caps.clone(),
            memory_limit: self.gpu.memory_limit.filter(|_| choice != DeviceChoice::Cpu),
            tune: self.gpu.tune.clone().filter(|tune| tune == "off"),
            trust_gpu: true,
        }
        .open()
    }
}

/// Writes what a run computes, with `next` after the prompt or what it chooses itself.
fn dump(
    path: &Path,
    file: &ModelFile,
    engine: &mut Engine,
    tokens: &[u32],
    next: Option<u32>,
    transform: Option<Transform>,
) -> Result<()> {
    let (taps, next) = block_on(record(engine, tokens, next, &[]))?;
    let model_sha256 = Some(StatsMeta::sha256_of(file.checkpoint())?);
    let all = Activations { tokens: Some(tokens.to_vec()), next: Some(next), model_sha256, transform, taps };
    Ok(all.write(path)?)
}

/// The rewrites in a model's weights; says so where they cannot be known.
fn known(file: &ModelFile) -> Result<Option<Transform>> {
    let found = rewrites(file)?;
    if found.is_none() {
        let dir = file.checkpoint().dir().display();
        log::info!(
            "{dir}: what was done to its weights before cannot be known; another model has few ops to compare with it"
        );
    }
    Ok(found)
}

/// An engine that takes a prompt of `tokens` in one pass, as its ops are looked at, and a token more.
fn engine(device: &Device, file: &ModelFile, tokens: usize) -> Result<Engine> {
    let settings = load::Settings { step: Some(tokens + 1), ..Default::default() };
    load::unchecked(device, file, tokens + 1, settings)
}

/// Activations in a file: of this model on another machine, unless the file says that they are another's.
fn stored(file: &ModelFile, path: &str, tokens: Option<&[u32]>) -> Result<Reference> {
    let mut activations = Activations::read(Path::new(path), tokens)?;
    activations.tokens = activations.tokens.or_else(|| tokens.map(<[u32]>::to_vec));
    let (mut ids, vocab) = (activations.tokens.iter().flatten().chain(&activations.next), file.config().vocab_size);
    if let Some(id) = ids.find(|id| **id as usize >= vocab) {
        let model = file.checkpoint().dir().display();
        bail!("{path}: holds token id {id}, and the vocabulary of {model} is of {vocab}: it is of another model");
    }
    let same_model = match &activations.model_sha256 {
        Some(other) if *other != StatsMeta::sha256_of(file.checkpoint())? => {
            log::info!(
                "{path}: is of another model than {}: ops are judged as between models",
                file.checkpoint().dir().display()
            );
            false
        }
        _ => true,
    };
    Ok(Reference { name: path.to_owned(), same_model, activations })
}

/// A model's directory in the Hugging Face cache, where `against` is its name there.
fn in_cache(against: String) -> String {
    locate(against.clone().into()).ok().and_then(|dir| dir.into_os_string().into_string().ok()).unwrap_or(against)
}

fn is_file(against: &str) -> bool {
    let path = Path::new(against);
    path.extension().is_some_and(|e| e == "safetensors") || path.is_file()
}

fn tokens(file: &ModelFile, prompt: &str) -> Result<Vec<u32>> {
    let dir = file.checkpoint().dir();
    let tokenizer = load::tokenizer(dir)?;
    let tokenizer =
        tokenizer.ok_or_else(|| anyhow!("{}: holds no tokenizer.json; copy the model's own there", dir.display()))?;
    encode(&tokenizer, file, prompt)
}

/// Model, device and what is masked of it.
fn describe(model: &Path, device: &Device) -> String {
    format!("{} on {}", model.display(), device.name())
}
