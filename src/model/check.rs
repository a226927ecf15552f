//! Are a model's parts what its configuration calls for? A file is asked on opening; what else gives a model is asked here, part by part.

use super::names::{Role, block_parts};
use super::quantized::whole;
use super::{Layer, Linear, Mixer, ModelConfig};
use crate::error::{Error, Result};
use crate::tensor::Shape;

/// Refuses a weight of another shape, or whose numbers are no floats or no sound codes.
pub(crate) fn check_linear(name: &str, linear: &Linear, want: impl Into<Shape>) -> Result<()> {
    let (wrong, want) = (|what: String| Err(Error::argument(format!("weight `{name}`"), what)), want.into());
    let shape = match linear {
        Linear::Float(t) => t.shape,
        Linear::Quantized(q) => q.codes.shape,
    };
    if shape != want {
        return wrong(format!("has shape {shape}, expected {want}"));
    }
    match linear {
        Linear::Float(t) if !t.dtype.is_float() => wrong(format!("is {}, expected f32, f16 or bf16", t.dtype)),
        Linear::Float(t) => whole(name, "floats", t),
        Linear::Quantized(q) => q.check(name),
    }
}

/// Refuses a parameter of another number of values, or of what is no number.
pub(crate) fn check_vector(name: &str, values: &[f32], want: usize) -> Result<()> {
    let wrong = |what: String| Err(Error::argument(format!("`{name}`"), what));
    if values.len() != want {
        return wrong(format!("has {} values, expected {want}", values.len()));
    }
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => wrong(format!("has {} at index {index}", values[index])),
        None => Ok(()),
    }
}

/// Refuses block `index` where it is of another kind, or a part of it is of another shape; `name` gives a part's name: `norm.weight`,
/// `mixer.in_proj`.
pub(crate) fn check_layer(
    config: &ModelConfig,
    index: usize,
    layer: &Layer,
    name: impl Fn(&str) -> String,
) -> Result<()> {
    let (linears, vectors) = (layer.linears(), vectors(layer));
    let Some(block) = config.blocks.get(index) else { return Ok(()) };
    for (part, shape, role) in block_parts(config, *block, true) {
        let missing = || {
            let what = format!("is not there, but the configuration says that block {index} is {block:?}");
            Error::argument(format!("`{}`", name(part)), what)
        };
        if role == Role::Linear {
            let module = part.strip_suffix(".weight").unwrap_or(part);
            let found = linears.iter().find(|(linear, _)| module.strip_prefix("mixer.") == Some(linear));
            check_linear(&name(module), found.ok_or_else(missing)?.1, Shape::new(&shape))?;
        } else {
            let found = vectors.iter().find(|(vector, _)| *vector == part).ok_or_else(missing)?;
            check_vector(&name(part), found.1, shape.iter().product())?;
        }
    }
    Ok(())
}

/// The small parameters of a block by their names in a checkpoint.
fn vectors(layer: &Layer) -> Vec<(&'static str, &[f32])> {
    let mut all = vec![("norm.weight", layer.norm.as_slice())];
    if let Mixer::Mamba2(m) = &layer.mixer {
        all.extend([
            ("mixer.conv1d.weight", m.conv_weight.as_slice()),
            ("mixer.conv1d.bias", &m.conv_bias),
            ("mixer.dt_bias", &m.dt_bias),
            ("mixer.A_log", &m.a_log),
            ("mixer.D", &m.d),
            ("mixer.norm.weight", &m.norm),
        ]);
    }
    all
}
