//! A word for the forms of all weights.

use crate::error::{Error, Result};
use crate::kernels::TOKEN_GROUP;
use crate::model::{Activations, Group, ModelConfig};
use crate::recipe::{Bits, Preset, Recipe};
use crate::tensor::DType;
use crate::transform::Transform;

/// Inputs that share a scale in 4 bits, unless the word says.
const GROUP: usize = 128;

/// The recipe that `word` names for a model of this shape, under online rotations as `quantize` makes them:
///
/// - `f32`, `f16`, `bf16`: floats, not rotated;
/// - `w8a8`, `w4a8`, `w4a16`, each also `-gN`: the same form everywhere, N inputs a scale, a multiple of 8 (8 bits: one scale a row
///   unless given, 4 bits: 128), the embedding in int8; the int8 ones also `-aN`: N inputs of a token share a scale, and online rotations
///   are in blocks of N;
/// - `preset-w8a8`, `preset-w4a8`, `preset-mixed`: the recipes that come with the program.
///
/// # Errors
/// [`Error::Argument`] for another word, or a group that no layer of this shape can have.
pub fn recipe(word: &str, config: &ModelConfig) -> Result<Recipe> {
    let lower = word.to_ascii_lowercase();
    let float = [DType::F32, DType::F16, DType::BF16].into_iter().find(|d| d.to_string() == lower);
    if let Some(float) = float {
        let rules = Vec::new();
        return Ok(Recipe { float, calibration: Default::default(), gptq: None, transform: Transform::NONE, rules });
    }
    if let Some(preset) = lower.strip_prefix("preset-").and_then(Preset::named) {
        return Ok(Recipe::preset(preset, config, DType::BF16, rotated(config, Some(TOKEN_GROUP)), false));
    }
    let mut words = lower.split('-');
    let bits: Bits = words.next().unwrap_or_default().parse().map_err(|_| unknown(word))?;
    let (mut group, mut token) = (None, None);
    for part in words {
        let size = |digits: &str| sized(word, digits.parse().map_err(|_| unknown(word))?, config);
        match (part.split_at_checked(1), bits) {
            (Some(("g", size_of)), _) if group.is_none() => group = Some(size(size_of)?),
            (Some(("a", size_of)), Bits::W8A8 | Bits::W4A8) if token.is_none() => token = Some(size(size_of)?),
            _ => return Err(unknown(word)),
        }
    }
    let (group_size, transform) = (Group::Size(group.unwrap_or(GROUP)), rotated(config, token));
    let mut recipe = Recipe::uniform(config, bits, group_size, true, DType::BF16, transform);
    if let Some(rule) = recipe.rules.first_mut() {
        if let (Bits::W8A8, Some(size), Some(format)) = (bits, group, &mut rule.weights) {
            format.group = Group::Size(size);
        }
        if let Some(size) = token {
            rule.activations = Activations::Int8(Group::Size(size));
        }
    }
    Ok(recipe)
}

/// A group is whole words of the codes, and no wider than a row.
fn sized(word: &str, size: usize, config: &ModelConfig) -> Result<usize> {
    let widths =
        [config.hidden_size, config.d_inner(), config.intermediate_size, config.attention_heads * config.head_dim];
    let widest = widths.into_iter().max().unwrap_or_default();
    if size == 0 || !size.is_multiple_of(8) || size > widest {
        let reason =
            format!("`{word}`: {size} inputs a scale, not a multiple of 8 up to this shape's widest, {widest}");
        return Err(Error::argument("--scheme", reason));
    }
    Ok(size)
}

fn unknown(word: &str) -> Error {
    let known = "f32, f16, bf16, w8a8, w4a8 and w4a16 (each also with -g and a group size, and of int8 activations -a \
                 and theirs, as w4a8-g32-a32), preset-w8a8, \
                 preset-w4a8, preset-mixed, and the path of a recipe (.toml)";
    Error::argument("--scheme", format!("`{word}` is not one of {known}"))
}

/// QuaRot's rotations, online in blocks of `block` where they can be, where the widths have Hadamard matrices; folded ones show
/// in norms only, whose weights are 1.
fn rotated(config: &ModelConfig, block: Option<usize>) -> Transform {
    Transform::hadamard_in(config, 0, block).unwrap_or(Transform { fold_norms: true, ..Transform::NONE })
}
