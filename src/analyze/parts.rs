//! Kinds of parts, and what of each there is in a file.

use serde::Serialize;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::model::{Block, Expected, ModelFile, ModelSource, Role};

/// Names of the kinds.
pub(super) const PARTS: [&str; 7] = ["Mamba-2", "attention", "MLP", "norms", "embedding", "head", "unused"];

/// All parts of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// Kind.
    pub name: &'static str,
    /// Blocks of this kind; 0 for parts outside blocks.
    pub blocks: usize,
    /// Parameters.
    pub parameters: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Types they are stored in.
    pub dtypes: Vec<String>,
}

/// What a quantized module may have instead of its weight, codes first.
const BESIDE: [&str; 6] =
    ["weight_packed", "weight_scale", "weight_scale_packed", "weight_scale_row", "weight_shape", "input_scale"];

pub(super) fn elements(tensor: &Expected) -> u64 {
    tensor.shape.iter().map(|n| *n as u64).product()
}

pub(super) fn conv_bias(checkpoint: &Checkpoint) -> bool {
    let flag = |key| checkpoint.config().get(key).and_then(Value::as_bool);
    flag("use_conv_bias").or_else(|| flag("mamba_conv_bias")).unwrap_or(true)
}

/// Index into [`PARTS`].
pub(super) fn part_of(file: &ModelFile, tensor: &Expected) -> usize {
    let name = &tensor.name;
    let index = name.split_once(".layers.").and_then(|(_, rest)| rest.split('.').next()?.parse::<usize>().ok());
    match index.and_then(|i| file.config().blocks.get(i)) {
        _ if *name == file.names().norm_f() => 3,
        Some(_) if name.ends_with(".norm.weight") && !name.contains(".mixer.") => 3,
        Some(Block::Mamba2) => 0,
        Some(Block::Attention) => 1,
        Some(Block::Mlp) => 2,
        None if tensor.role == Role::Embedding => 4,
        None => 5,
    }
}

/// What is there now.
pub(super) fn parts(file: &ModelFile) -> Vec<Part> {
    let (config, checkpoint) = (file.config(), file.checkpoint());
    let blocks = |part: usize| {
        let kinds = [Block::Mamba2, Block::Attention, Block::Mlp];
        kinds.get(part).map_or(0, |kind| config.blocks.iter().filter(|b| *b == kind).count())
    };
    let empty = |(i, name)| Part { name, blocks: blocks(i), parameters: 0, bytes: 0, dtypes: Vec::new() };
    let mut parts: Vec<Part> = PARTS.into_iter().enumerate().map(empty).collect();
    let mut used = 0;
    for tensor in file.names().expected(config, conv_bias(checkpoint)) {
        let part = &mut parts[part_of(file, &tensor)];
        part.parameters += elements(&tensor);
        let module = tensor.module();
        let beside = BESIDE.map(|s| format!("{module}.{s}"));
        for (i, name) in std::iter::once(&tensor.name).chain(&beside).enumerate() {
            let Some(info) = checkpoint.info(name) else { continue };
            let bytes = info.shape.iter().product::<usize>() as u64 * info.dtype.size() as u64;
            part.bytes += bytes;
            used += bytes;
            let dtype = info.dtype.name().to_ascii_lowercase();
            if i < 2 && !part.dtypes.contains(&dtype) {
                part.dtypes.push(dtype);
            }
        }
    }
    // A head stored beside a tied embedding, for example.
    parts[PARTS.len() - 1].bytes = file.bytes() - used;
    parts
}
