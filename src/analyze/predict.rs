//! The bytes `quantize` will write, tensor by tensor.

use serde::Serialize;

use super::bits_per_parameter;
use super::parts::{PARTS, conv_bias, elements, part_of};
use crate::error::Result;
use crate::model::{Activations, Block, Expected, ModelFile, ModelSource, Role};
use crate::recipe::{Module, Recipe};
use crate::runtime::{EngineOptions, working_bytes};
use crate::tensor::{DType, exact_dtype};

/// A size under a scheme.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// Name of the recipe.
    pub scheme: String,
    /// Bytes of all tensors `quantize` will write.
    pub bytes: u64,
    /// `bytes * 8 / parameters`; folding the final norm gives a tied model a head of its own.
    pub bits_per_parameter: f64,
    /// Bytes now over bytes then.
    pub reduction: f64,
    /// Bytes of the weights on a device: codes padded to words, scales in f32.
    pub device_bytes: u64,
    /// Bytes on a device while it runs, in the engine options asked for: weights, state, activations.
    pub peak_bytes: u64,
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

/// The size of `file` under `recipe`, which goes by `name`: exactly the bytes that `quantize` writes, and those that an
/// engine with `options` takes.
///
/// # Errors
/// As [`Recipe::modules`].
pub fn predict(file: &ModelFile, name: &str, recipe: &Recipe, options: EngineOptions) -> Result<Prediction> {
    let mut bytes = [0; PARTS.len()];
    let mut config = file.config().clone();
    config.tied &= !recipe.transform.fold_norms;
    // Modules go by the names of published checkpoints, in the same order.
    let modules = recipe.modules(file.config())?;
    let groups = modules.iter().map(activation_groups).max().unwrap_or(0);
    let mut modules = modules.into_iter();
    let (mut parameters, mut device_bytes) = (0, 0);
    for tensor in file.names().expected(&config, conv_bias(file.checkpoint())) {
        parameters += elements(&tensor);
        bytes[part_of(file, &tensor)] += match tensor.role {
            Role::Vector => {
                device_bytes += elements(&tensor) * 4;
                elements(&tensor) * vector_dtype(file, recipe, &tensor)?.bits() as u64 / 8
            }
            Role::Linear | Role::Embedding => modules.next().map_or(0, |module| {
                device_bytes += resident(&module, recipe.float);
                if config.tied && module.role == Role::Embedding {
                    device_bytes += resident(&tied_head(&module), recipe.float);
                }
                module.bytes(recipe.float)
            }),
        };
    }
    if !conv_bias(file.checkpoint()) {
        // Zeros stand in for it.
        let mamba = config.blocks.iter().filter(|b| **b == Block::Mamba2).count();
        device_bytes += (mamba * config.conv_dim() * 4) as u64;
    }
    let working = working_bytes(&config, recipe.transform.online, options, groups)?;
    let total = bytes.iter().sum();
    Ok(Prediction {
        scheme: name.to_owned(),
        bytes: total,
        bits_per_parameter: bits_per_parameter(total, parameters),
        reduction: file.bytes() as f64 / total.max(1) as f64,
        device_bytes,
        peak_bytes: device_bytes + working,
        parts: PARTS.into_iter().zip(bytes).map(|(name, bytes)| PartBytes { name, bytes }).collect(),
    })
}

/// Bytes a module takes on a device, in the form the runtime holds it in.
fn resident(module: &Module, float: DType) -> u64 {
    let (rows, cols) = (module.rows, module.cols);
    let padded = |bits: usize| rows * (cols * bits).div_ceil(32) * 4;
    let with_scales = |bits, groups| padded(bits) + rows * groups * 4;
    let fixed = module.activations.stored_scales(cols) * 4;
    let bytes = match module.weights.map(|f| (f.bits > 4, f.group.count(cols))) {
        None => padded(float.bits()),
        Some((true, 1)) if module.role == Role::Embedding => with_scales(8, 1),
        Some((true, groups)) if module.activations.int8() => with_scales(8, groups) + fixed,
        Some((false, groups)) if module.role == Role::Linear => with_scales(4, groups) + fixed,
        Some(_) => padded(32),
    };
    bytes as u64
}

/// The embedding as the head of a tied model: a second copy.
fn tied_head(embedding: &Module) -> Module {
    Module { role: Role::Linear, activations: Activations::TOKEN, ..embedding.clone() }
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

/// Scales that a token's activations have before this module.
fn activation_groups(module: &Module) -> usize {
    module.activations.group().map_or(0, |group| group.count(module.cols))
}
