//! What a model consists of, and how large it will be under each scheme, from its headers alone: no weights are
//! read, no GPU is used.

mod parts;
mod predict;

use serde::Serialize;

pub use parts::Part;
pub use predict::{PartBytes, Prediction, predict};

use parts::{PARTS, parts};

use crate::error::Result;
use crate::model::{Block, ModelFile, ModelSource, ModelType};
use crate::recipe::Recipe;

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
    /// Kinds of parts that there are.
    pub parts: Vec<Part>,
    /// Sizes to come; none for a quantized model.
    pub predictions: Vec<Prediction>,
}

/// Takes stock of a model, and predicts its size under each recipe.
///
/// # Errors
/// As [`predict`].
pub fn analyze(file: &ModelFile, recipes: &[(String, Recipe)]) -> Result<Analysis> {
    let config = file.config();
    let predictions = match file.is_quantized() {
        true => Vec::new(),
        false => recipes.iter().map(|(name, recipe)| predict(file, name, recipe)).collect::<Result<_>>()?,
    };
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
        parts: parts(file),
        predictions,
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
