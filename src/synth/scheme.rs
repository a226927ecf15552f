//! A word for the forms of all weights.

use crate::error::{Error, Result};
use crate::model::{Group, ModelConfig};
use crate::recipe::{Bits, Preset, Recipe};
use crate::tensor::DType;
use crate::transform::Transform;

/// Inputs that share a scale in 4 bits, unless the word says.
const GROUP: usize = 128;

/// The recipe that `word` names for a model of this shape, under online rotations as `quantize` makes them:
///
/// - `f32`, `f16`, `bf16`: floats, not rotated;
/// - `w8a8`, `w4a8`, `w4a16`, each also `-gN`: the same form everywhere, N inputs a scale (8 bits: one scale a row
///   unless given, 4 bits: 128), the embedding in int8;
/// - `preset-w8a8`, `preset-w4a8`, `preset-mixed`: the recipes that come with the program.
///
/// # Errors
/// [`Error::Argument`] for another word.
pub fn recipe(word: &str, config: &ModelConfig) -> Result<Recipe> {
    let lower = word.to_ascii_lowercase();
    let float = [DType::F32, DType::F16, DType::BF16].into_iter().find(|d| d.to_string() == lower);
    if let Some(float) = float {
        let rules = Vec::new();
        return Ok(Recipe { float, calibration: Default::default(), gptq: None, transform: Transform::NONE, rules });
    }
    let transform = rotated(config);
    if let Some(preset) = lower.strip_prefix("preset-").and_then(Preset::named) {
        return Ok(Recipe::preset(preset, config, DType::BF16, transform, false));
    }
    let (bits, group) = match lower.split_once("-g") {
        Some((bits, size)) => (bits, Some(size.parse().ok().filter(|n| *n > 0).ok_or_else(|| unknown(word))?)),
        None => (lower.as_str(), None),
    };
    let bits: Bits = bits.parse().map_err(|_| unknown(word))?;
    let mut recipe = Recipe::uniform(config, bits, Group::Size(group.unwrap_or(GROUP)), true, DType::BF16, transform);
    if let (Bits::W8A8, Some(size), Some(rule)) = (bits, group, recipe.rules.first_mut())
        && let Some(format) = &mut rule.weights
    {
        format.group = Group::Size(size);
    }
    Ok(recipe)
}

fn unknown(word: &str) -> Error {
    let known = "f32, f16, bf16, w8a8, w4a8 and w4a16 (each also with -g and a group size, as w4a8-g32), preset-w8a8, \
                 preset-w4a8, preset-mixed, and the path of a recipe (.toml)";
    Error::argument("--scheme", format!("`{word}` is not one of {known}"))
}

/// QuaRot's rotations where the widths have Hadamard matrices; folded ones show in norms only, whose weights are 1.
fn rotated(config: &ModelConfig) -> Transform {
    Transform::hadamard(config, 0).unwrap_or(Transform { fold_norms: true, ..Transform::NONE })
}
