//! `wgquant synth`, and the models it makes for `bench`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use serde::Serialize;
use serde_json::{Value, json};
use wgquant::Error;
use wgquant::checkpoint::read_json;
use wgquant::model::{Model, ModelConfig, ModelSource, Names, WriteOptions, write_model};
use wgquant::recipe::{RECIPE_FILE, Recipe};
use wgquant::report::{bytes, count};
use wgquant::synth::{self, Synth};
use wgquant::tensor::DType;

use super::{Verdict, out};

/// Which model to make. Commands that also take a model on disk refuse this group with one.
#[derive(Clone, Debug, Args)]
#[group(id = "shape")]
pub(super) struct Shape {
    /// Forms of the weights: f32, f16, bf16; w8a8, w4a8, w4a16, with -gN for groups of N and -aN for activations by groups
    /// of N rotated in blocks of N; preset-w8a8, preset-w4a8, preset-mixed; or a recipe (.toml)
    #[arg(long, value_name = "SCHEME|FILE", default_value = "w8a8")]
    pub(super) scheme: String,
    /// The first N blocks only
    #[arg(long, value_name = "N")]
    pub(super) layers: Option<usize>,
    /// Seed of the weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

impl Shape {
    /// The model of the shape `like`, as `flag` names it: a published model's name, or a directory with a `config.json`.
    pub(super) fn source(&self, flag: &str, like: &str) -> Result<Synth> {
        let mut config = match synth::shape(like) {
            Ok(config) => config,
            Err(_) if Path::new(like).exists() => read(Path::new(like))?,
            Err(Error::Argument { reason, .. }) => bail!("{flag}: {reason}; or the directory of a model"),
            Err(e) => return Err(e.into()),
        };
        if let Some(layers) = self.layers {
            synth::cut(&mut config, layers)?;
        }
        let parsed = ModelConfig::from_json(Path::new("config.json"), &config)?;
        Ok(Synth::new(config, self.recipe(&parsed)?, self.seed)?)
    }

    fn recipe(&self, config: &ModelConfig) -> Result<Recipe> {
        let path = Path::new(&self.scheme);
        if path.extension().is_none_or(|e| e != "toml") {
            return Ok(synth::recipe(&self.scheme, config)?);
        }
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let recipe = Recipe::parse(&self.scheme, &text)?;
        recipe.modules(config).with_context(|| self.scheme.clone())?;
        Ok(recipe)
    }
}

/// The configuration of a model on disk, without what quantizing added.
fn read(path: &Path) -> Result<Value> {
    let file = if path.is_dir() { path.join("config.json") } else { path.to_owned() };
    let mut config = read_json(&file)?;
    if let Some(object) = config.as_object_mut() {
        object.shift_remove("quantization_config");
        object.shift_remove("wgquant");
    }
    Ok(config)
}

/// Make a model of a published shape with seeded random weights
///
/// To measure speed and memory where the weights cannot be had; it says nothing of quality. Activations stay finite
/// and near 1. The same seed gives the same bytes.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("made").required(true).multiple(true).args(["output", "in_memory"])))]
pub(super) struct SynthCommand {
    /// The shape: nemotron-h-8b, nemotron-h-4b, nemotron-h-47b, nemotron-nano-9b-v2, mamba2-130m, -370m, -780m, -1.3b,
    /// -2.7b, mamba-codestral-7b, nano, small, or a directory with a config.json
    #[arg(long, value_name = "NAME|DIR")]
    like: String,
    #[command(flatten)]
    shape: Shape,
    /// Directory to make; must not exist
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write nothing: make the model in memory, and say how long that took
    #[arg(long, conflicts_with = "output")]
    in_memory: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    like: String,
    scheme: String,
    seed: u64,
    layers: usize,
    parameters: u64,
    /// Of the tensors in a file.
    bytes: u64,
    output: Option<PathBuf>,
    seconds: f64,
}

impl SynthCommand {
    pub(super) fn run(&self) -> Result<Verdict> {
        let start = Instant::now();
        let model = self.shape.source("--like", &self.like)?;
        let written = match &self.output {
            Some(output) => self.write(&model, output)?,
            None => {
                // Kept to its end: what it takes to hold one is what is asked.
                let _held = std::hint::black_box(Model::load(&model)?);
                model.bytes()
            }
        };
        let made = Made {
            like: self.like.clone(),
            scheme: self.shape.scheme.clone(),
            seed: self.shape.seed,
            layers: model.config().blocks.len(),
            parameters: model.parameters(),
            bytes: written,
            output: self.output.clone(),
            seconds: start.elapsed().as_secs_f64(),
        };
        out::report(&made, self.json, text)?;
        Ok(Verdict::Passed)
    }

    fn write(&self, model: &Synth, output: &Path) -> Result<u64> {
        let options = WriteOptions {
            names: Names::default(),
            vector_dtype: DType::F32,
            files: vec![(RECIPE_FILE.to_owned(), model.recipe().to_toml()?)],
            source: json!({ "synth": self.like, "scheme": self.shape.scheme, "seed": self.shape.seed }),
            ..WriteOptions::default()
        };
        Ok(write_model(model.json(), model, output, &options)?.written.tensor_bytes)
    }
}

fn text(made: &Made) -> String {
    let place = made.output.as_ref().map_or("in memory".to_owned(), |o| o.display().to_string());
    format!(
        "{} {}: {} blocks, {} parameters, {}, {place}, in {:.1} s\n",
        made.like,
        made.scheme,
        made.layers,
        count(made.parameters),
        bytes(made.bytes),
        made.seconds
    )
}
