//! Exact scalings of channels, each moved from one weight to the next.
//!
//! Factors are those of the *activation* between the two weights where one is named: it is divided by `s`, and the
//! weight that reads it is multiplied by `s`. Powers of two change no mantissa and so no result.

use super::wide::{Attention, Layer, Mamba2, Mlp};
use crate::error::{Error, Result};
use crate::model::ModelConfig;

/// Norm folding: `W (norm * x) = (W diag(norm)) x`. The norm becomes ones.
pub fn fold_norm(layer: &mut Layer) {
    let weight = std::mem::take(&mut layer.norm);
    layer.norm = vec![1.0; weight.len()];
    for reader in layer.readers() {
        reader.scale_columns(&weight);
    }
}

/// The block norm's weight `/= s`, the columns of its readers `*= s`.
///
/// # Errors
/// [`Error::Argument`] unless there is a factor above 0 for each channel.
pub fn norm(layer: &mut Layer, s: &[f64]) -> Result<()> {
    factors("block norm", s, layer.norm.len())?;
    layer.norm.iter_mut().zip(s).for_each(|(w, s)| *w /= s);
    for reader in layer.readers() {
        reader.scale_columns(s);
    }
    Ok(())
}

/// The gated norm's weight `/= s`, the columns of `out_proj` `*= s`: MambaQuant's smoothing before the rotation
/// (arXiv:2501.13484, section 4.2). There the gate is smoothed, which needs the S-SiLU
/// ([`crate::kernels::s_silu`]); Mamba-2's norm behind the gate has a weight, which takes the factor as it is.
///
/// # Errors
/// As [`norm`].
pub fn gated_norm(m: &mut Mamba2, s: &[f64]) -> Result<()> {
    factors("gated norm", s, m.norm.len())?;
    m.norm.iter_mut().zip(s).for_each(|(w, s)| *w /= s);
    m.out_proj.scale_columns(s);
    Ok(())
}

/// `relu(s u)² = s² relu(u)²` for `s > 0`: row `j` of `up_proj` `*= s_j`, column `j` of `down_proj` `/= s_j²`.
///
/// # Errors
/// As [`norm`].
pub fn relu_squared(m: &mut Mlp, s: &[f64]) -> Result<()> {
    factors("relu^2", s, m.up_proj.rows())?;
    m.up_proj.scale_rows(0, s);
    m.down_proj.scale_columns(&s.iter().map(|s| 1.0 / (s * s)).collect::<Vec<_>>());
    Ok(())
}

/// Rows of `v_proj` `/= s`, the matching columns of `o_proj`, of all query heads that share the KV head, `*= s`.
/// `s`: `[kv_heads * head_dim]`.
///
/// # Errors
/// As [`norm`].
pub fn values(a: &mut Attention, config: &ModelConfig, s: &[f64]) -> Result<()> {
    factors("values", s, a.v_proj.rows())?;
    a.v_proj.scale_rows(0, &s.iter().map(|s| 1.0 / s).collect::<Vec<_>>());
    a.o_proj.scale_columns(&shared(config, s));
    Ok(())
}

/// Rows of x, B and C in `in_proj` `/= s`, the convolution's taps `*= s`; its bias stays. The convolution is linear and
/// has a filter for each channel, so this is exact for any `s` but 0, before the SiLU. What it changes is the input of
/// the convolution and its state. `s`: `[conv_dim]`.
///
/// # Errors
/// As [`norm`].
pub fn conv(m: &mut Mamba2, s: &[f64]) -> Result<()> {
    factors("convolution", s, m.conv_bias.len())?;
    m.in_proj.scale_rows(m.norm.len(), &s.iter().map(|s| 1.0 / s).collect::<Vec<_>>());
    m.conv_weight.scale_rows(0, s);
    Ok(())
}

/// A value of each KV channel for the query channels that share it: `[kv_heads * head_dim]` to `[heads * head_dim]`.
pub(crate) fn shared(config: &ModelConfig, kv: &[f64]) -> Vec<f64> {
    let repeats = config.attention_heads / config.kv_heads;
    kv.chunks_exact(config.head_dim).flat_map(|head| head.repeat(repeats)).collect()
}

/// The largest over the query heads that share a KV head: `[heads * head_dim]` to `[kv_heads * head_dim]`.
pub(crate) fn of_kv(config: &ModelConfig, of_heads: &[f64]) -> Vec<f64> {
    let (dim, repeats) = (config.head_dim, config.attention_heads / config.kv_heads);
    let largest = |heads: &[f64]| {
        let mut most = vec![0.0f64; dim];
        heads.chunks_exact(dim).for_each(|head| most.iter_mut().zip(head).for_each(|(m, v)| *m = m.max(v.abs())));
        most
    };
    of_heads.chunks_exact(dim * repeats).flat_map(largest).collect()
}

fn factors(what: &str, s: &[f64], channels: usize) -> Result<()> {
    if s.len() != channels {
        return Err(Error::argument(format!("factors of the {what}"), format!("{} for {channels} channels", s.len())));
    }
    match s.iter().position(|s| !(s.is_finite() && *s > 0.0)) {
        Some(i) => Err(Error::argument(format!("factors of the {what}"), format!("[{i}] is {}, not above 0", s[i]))),
        None => Ok(()),
    }
}
