//! What a model consists of, how large it will be under each scheme, and where its outliers are. No GPU is used.

mod dynamics;
mod parts;
mod predict;
mod tensors;
mod weights;

use serde::Serialize;

pub use dynamics::Dynamics;
pub(crate) use dynamics::range;
pub use parts::Part;
pub use predict::{PartBytes, Prediction, Refused, Scheme, predict};

pub use tensors::{InputStats, Sensitivity, TensorRow};
pub use weights::WeightStats;

use parts::{PARTS, parts};

use crate::calibrate::{Stats, StatsMeta};
use crate::error::{Error, Result};
use crate::model::{Block, ModelFile, ModelSource, ModelType};
use crate::runtime::{EngineOptions, Memory};

/// Which model, and how large.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// Its directory.
    pub model: String,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Parameters; a tied head counts once.
    pub parameters: u64,
    /// `bytes * 8 / parameters`: scales and everything else included.
    pub bits_per_parameter: f64,
}

impl From<&ModelFile> for ModelInfo {
    fn from(file: &ModelFile) -> Self {
        Self {
            model: file.checkpoint().dir().display().to_string(),
            bytes: file.bytes(),
            parameters: file.parameters(),
            bits_per_parameter: bits_per_parameter(file.bytes(), file.parameters()),
        }
    }
}

fn bits_per_parameter(bytes: u64, parameters: u64) -> f64 {
    bytes as f64 * 8.0 / parameters.max(1) as f64
}

/// A model, by kind of part.
#[derive(Clone, Debug, Serialize)]
pub struct Analysis {
    /// Directory and size.
    #[serde(flatten)]
    pub model: ModelInfo,
    /// `nemotron_h` or `mamba2`.
    pub model_type: &'static str,
    /// One letter a block: M (Mamba-2), * (attention), - (MLP).
    pub blocks: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Is it quantized already?
    pub quantized: bool,
    /// Bytes of its weights on a device as it is; none of forms that are made as they are read.
    pub device_bytes: Option<u64>,
    /// Bytes on a device while it runs as it is, in the engine options asked for.
    pub peak_bytes: Option<u64>,
    /// Kinds of parts that there are.
    pub parts: Vec<Part>,
    /// Sizes to come; none for a quantized model.
    pub predictions: Vec<Prediction>,
    /// Schemes that cannot be made of it.
    pub refused: Vec<Refused>,
    /// Weight by weight; none when only sizes were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

/// What reading the weights shows.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    /// Every weight.
    pub tensors: Vec<TensorRow>,
    /// Every Mamba-2 block's memory.
    pub dynamics: Vec<Dynamics>,
    /// What the statistics of activations are of.
    pub stats: Option<StatsMeta>,
}

impl Analysis {
    /// Reads every weight, one layer in memory at a time, and adds what is known of activations and of sensitivity. `schemes`: those
    /// that this came of.
    ///
    /// # Errors
    /// As reading the model; [`Error::StatsMismatch`] for statistics of another model's sites,
    /// [`Error::Argument`] for a sensitivity of modules that there are not.
    pub fn detail(
        &mut self,
        file: &ModelFile,
        schemes: &[Scheme],
        stats: Option<&Stats>,
        sensitivity: &Sensitivity,
    ) -> Result<()> {
        if let Some(stats) = stats {
            let head = stats.input(crate::model::Names::default().head()).map_or(0, |s| s.channels());
            if head != self.hidden_size {
                let (here, there) = (format!("{head} ({})", stats.meta.model), self.hidden_size.to_string());
                return Err(Error::StatsMismatch { what: "width of the head's input", here, there });
            }
            let same = StatsMeta::sha256_of(file.checkpoint())? == stats.meta.model_sha256;
            if !same {
                let (of, here) = (&stats.meta.model, &self.model.model);
                log::warn!("the statistics are of another model ({of}) than {here}");
            }
        }
        // The one weight that no row and no block has: what it holds is looked at, as of all others.
        file.norm_f()?;
        let predicted = |s: &&Scheme| self.predictions.iter().any(|p| p.scheme == s.name);
        let recipes = schemes.iter().filter(predicted).map(|s| &s.recipe).collect();
        self.details = Some(Details {
            tensors: tensors::Context::new(file, recipes, stats, sensitivity)?.rows()?,
            dynamics: dynamics::dynamics(file, stats)?,
            stats: stats.map(|s| s.meta.clone()),
        });
        Ok(())
    }
}

/// Takes stock of a model, and predicts its size under each scheme, or says why there is none; on a device, in an engine with
/// `options`. A quantized model takes no scheme.
///
/// # Errors
/// As [`Memory::of`] and reading the norms.
pub fn analyze(file: &ModelFile, schemes: &[Scheme], options: EngineOptions) -> Result<Analysis> {
    let config = file.config();
    let (mut predictions, mut refused) = (Vec::new(), Vec::new());
    for Scheme { name, recipe, note } in schemes.iter().filter(|_| !file.is_quantized()) {
        match predict(file, name, recipe, options) {
            Ok(prediction) => predictions.push(Prediction { note: note.clone(), ..prediction }),
            Err(e @ Error::Argument { .. }) => refused.push(Refused { scheme: name.clone(), reason: e.to_string() }),
            Err(e) => return Err(e),
        }
    }
    let memory = Memory::of(file, options)?;
    let mut analysis = Analysis {
        model: ModelInfo::from(file),
        model_type: match config.model_type {
            ModelType::NemotronH => "nemotron_h",
            ModelType::Mamba2 => "mamba2",
        },
        blocks: config.blocks.iter().map(|b| letter(*b)).collect(),
        hidden_size: config.hidden_size,
        vocab_size: config.vocab_size,
        quantized: file.is_quantized(),
        device_bytes: memory.as_ref().map(|m| m.weights),
        peak_bytes: memory.as_ref().map(Memory::total),
        parts: parts(file),
        predictions,
        refused,
        details: None,
    };
    let there = |name: &str, a: &Analysis| {
        a.parts.iter().any(|p| p.name == name && p.bytes > 0)
            || a.predictions.iter().any(|p| p.parts.iter().any(|b| b.name == name && b.bytes > 0))
    };
    let kept: Vec<&str> = PARTS.into_iter().filter(|name| there(name, &analysis)).collect();
    analysis.parts.retain(|p| kept.contains(&p.name));
    analysis.predictions.iter_mut().for_each(|p| p.parts.retain(|b| kept.contains(&b.name)));
    Ok(analysis)
}

fn letter(block: Block) -> char {
    match block {
        Block::Mamba2 => 'M',
        Block::Attention => '*',
        Block::Mlp => '-',
    }
}
