//! The bytes `quantize` will write, tensor by tensor.

use serde::Serialize;

use super::bits_per_parameter;
use super::parts::{PARTS, conv_bias, elements, part_of};
use crate::checkpoint::packed_words;
use crate::error::Result;
use crate::model::{Expected, ModelFile, ModelSource, Role};
use crate::quantize::Bits;
use crate::recipe::Recipe;
use crate::tensor::{DType, exact_dtype};

/// Bytes of the two 64-bit sizes that compressed-tensors stores beside packed codes.
const SHAPE_BYTES: u64 = 16;

/// A size under a scheme.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// w8a8, w4a8 or w4a16.
    pub scheme: String,
    /// Bytes of all tensors `quantize` will write.
    pub bytes: u64,
    /// `bytes * 8 / parameters`; folding the final norm gives a tied model a head of its own.
    pub bits_per_parameter: f64,
    /// Bytes now over bytes then.
    pub reduction: f64,
    /// Bytes by kind, in the order of [`super::Analysis::parts`].
    pub parts: Vec<PartBytes>,
}

/// Bytes of one kind of part under a scheme.
#[derive(Clone, Debug, Serialize)]
pub struct PartBytes {
    /// Kind.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
}

/// The size of `file` under `recipe`: exactly the bytes that `quantize` writes.
///
/// # Errors
/// [`crate::Error::Argument`] when no group of the scheme fits a weight.
pub fn predict(file: &ModelFile, recipe: &Recipe) -> Result<Prediction> {
    let mut bytes = [0; PARTS.len()];
    let mut config = file.config().clone();
    config.tied &= !recipe.transform.fold_norms;
    let mut parameters = 0;
    for tensor in file.names().expected(&config, conv_bias(file.checkpoint())) {
        parameters += elements(&tensor);
        bytes[part_of(file, &tensor)] += written(file, recipe, config.tied, &tensor)?;
    }
    let total = bytes.iter().sum();
    Ok(Prediction {
        scheme: recipe.scheme.bits.to_string(),
        bytes: total,
        bits_per_parameter: bits_per_parameter(total, parameters),
        reduction: file.bytes() as f64 / total.max(1) as f64,
        parts: PARTS.into_iter().zip(bytes).map(|(name, bytes)| PartBytes { name, bytes }).collect(),
    })
}

/// Bytes a tensor will take, scales and sizes included.
fn written(file: &ModelFile, recipe: &Recipe, tied: bool, tensor: &Expected) -> Result<u64> {
    let scheme = &recipe.scheme;
    let (rows, cols) = (tensor.shape[0], tensor.shape.get(1).copied().unwrap_or(1));
    let scales = |groups: usize| (rows * groups * scheme.scale_dtype.bits() / 8) as u64;
    Ok(match tensor.role {
        Role::Vector => elements(tensor) * vector_dtype(file, recipe, tensor)?.bits() as u64 / 8,
        Role::Embedding if !scheme.quantizes_embedding(tied) => elements(tensor) * scheme.scale_dtype.bits() as u64 / 8,
        Role::Embedding => elements(tensor) + scales(1),
        Role::Linear => {
            let groups = scheme.group_of(cols)?.count(cols);
            let codes = match scheme.bits {
                Bits::W8A8 => elements(tensor),
                bits => (rows * packed_words(bits.weight(), cols) * 4) as u64 + SHAPE_BYTES,
            };
            codes + scales(groups)
        }
    })
}

/// Type a vector will be stored in: the checkpoint's where that is exact.
fn vector_dtype(file: &ModelFile, recipe: &Recipe, tensor: &Expected) -> Result<DType> {
    let preferred = file.float_dtype();
    let is_block_norm = !tensor.name.contains(".mixer.");
    if is_block_norm && recipe.transform.fold_norms {
        return Ok(preferred); // ones
    }
    Ok(exact_dtype(preferred, &file.checkpoint().float_vec(&tensor.name, &tensor.shape)?))
}
