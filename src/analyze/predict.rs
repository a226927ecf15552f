//! The bytes `quantize` will write, tensor by tensor.

use half::bf16;
use serde::Serialize;

use super::bits_per_parameter;
use super::parts::{PARTS, conv_bias, elements, part_of};
use crate::error::Result;
use crate::model::{Expected, ModelFile, ModelSource, Role, WeightForm};
use crate::recipe::Recipe;
use crate::runtime::{EngineOptions, Memory};
use crate::tensor::{DType, exact_dtype};
use crate::transform::{Transform, Transformed};

/// A recipe whose size is to be predicted.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme {
    /// What it goes by.
    pub name: String,
    /// Everything that decides the size.
    pub recipe: Recipe,
    /// What is to be said of it, where it is not what its name stands for.
    pub note: Option<String>,
}

/// A scheme that cannot be made of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refused {
    /// Name of the recipe.
    pub scheme: String,
    /// What is in the way.
    pub reason: String,
}

/// A size under a scheme.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// Name of the recipe.
    pub scheme: String,
    /// What is to be said of it, see [`Scheme::note`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Bytes of all tensors `quantize` will write.
    pub bytes: u64,
    /// `bytes * 8` over the parameters of the original model: where folding the final norm gives a tied one a head of its own,
    /// that adds bytes and no parameters.
    pub bits_per_parameter: f64,
    /// Bytes now over bytes then.
    pub reduction: f64,
    /// Bytes of the weights on a device: codes padded to words, scales of whole four rows.
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

/// The size of `file` under `recipe`, which goes by `name`: exactly the bytes that `quantize` writes (but for a norm of f16 that
/// smoothing takes beyond that type's range, which becomes f32), and those that an engine with `options` takes.
///
/// # Errors
/// As [`Recipe::modules`] and [`Memory::plan`]; [`crate::Error::Argument`] for a model that is rotated already.
pub fn predict(file: &ModelFile, name: &str, recipe: &Recipe, options: EngineOptions) -> Result<Prediction> {
    Transformed::new(file, Transform::NONE)?; // refuses what none is made of
    let mut bytes = [0; PARTS.len()];
    let mut config = file.config().clone();
    config.tied &= !recipe.transform.fold_norms;
    // Modules go by the names of published checkpoints, in the same order.
    let modules = recipe.modules(file.config())?;
    let forms: Vec<WeightForm> = modules.iter().map(|m| m.form(recipe.float)).collect();
    let mut modules = modules.into_iter();
    for tensor in file.names().expected(&config, conv_bias(file.checkpoint())) {
        bytes[part_of(file, &tensor)] += match tensor.role {
            Role::Vector => elements(&tensor) * vector_dtype(file, recipe, &tensor)?.bits() as u64 / 8,
            Role::Linear | Role::Embedding => modules.next().map_or(0, |module| module.bytes(recipe.float)),
        };
    }
    let memory = Memory::plan(&config, recipe.transform.online, &forms, options)?;
    let total = bytes.iter().sum();
    Ok(Prediction {
        scheme: name.to_owned(),
        note: None,
        bytes: total,
        bits_per_parameter: bits_per_parameter(total, file.parameters()),
        reduction: file.bytes() as f64 / total.max(1) as f64,
        device_bytes: memory.weights,
        peak_bytes: memory.total(),
        parts: PARTS.into_iter().zip(bytes).map(|(name, bytes)| PartBytes { name, bytes }).collect(),
    })
}

/// Type a vector will be stored in: the checkpoint's where that is exact.
fn vector_dtype(file: &ModelFile, recipe: &Recipe, tensor: &Expected) -> Result<DType> {
    let (preferred, transform) = (file.float_dtype(), recipe.transform);
    let is_block_norm = !tensor.name.contains(".mixer.");
    if is_block_norm && transform.fold_norms {
        return Ok(preferred); // ones
    }
    let mut values = file.checkpoint().float_vec(&tensor.name, &tensor.shape)?;
    let gated = tensor.name.ends_with(".mixer.norm.weight");
    let smoothed = match tensor.name.ends_with(".norm.weight") {
        true if gated => transform.smooth.gated_norm,
        true => transform.smooth.norms,
        false => None,
    };
    if smoothed.is_some() {
        // Which numbers they become, calibration finds out: bf16 ones all.
        values.iter_mut().for_each(|v| *v = bf16::from_f32(*v).to_f32());
    }
    Ok(exact_dtype(preferred, &values))
}
