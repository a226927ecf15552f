//! `out[t, c] = silu(bias[c] + Σ_j weight[c, j] · in[t + j - (taps - 1), c])`. Gu & Dao 2023, arXiv:2312.00752.

use super::hadamard::finite_halves;
use crate::shaders::causal_conv1d::{Format, Params};

/// `input`: `[tokens, stride]` from column `offset`; `state`, `weight`: `[channels, taps]`; `bias`: `[channels]`;
/// `out`: `[tokens, channels]`, f32 or f16. Inputs before the first token are the last ones of `state`.
pub fn causal_conv1d(
    p: &Params,
    format: Format,
    input: &[f32],
    state: &[f32],
    weight: &[f32],
    bias: &[f32],
    out: &mut [u32],
) {
    if format == Format::F32 {
        return of_floats(p, input, state, weight, bias, bytemuck::cast_slice_mut(out));
    }
    let mut y = vec![0.0; 2 * out.len()];
    of_floats(p, input, state, weight, bias, &mut y);
    finite_halves(y.into_iter(), out);
}

/// Into f32.
fn of_floats(p: &Params, input: &[f32], state: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let (channels, taps) = (p.channels as usize, p.taps as usize);
    let (offset, stride) = (p.offset as usize, p.stride as usize);
    for (t, out) in out.chunks_exact_mut(channels).enumerate() {
        for (c, out) in out.iter_mut().enumerate() {
            let mut sum = f64::from(bias[c]);
            for j in 0..taps {
                // Index into state followed by inputs.
                let at = t + j + 1;
                let value = if at < taps { state[c * taps + at] } else { input[(at - taps) * stride + offset + c] };
                sum += f64::from(weight[c * taps + j]) * f64::from(value);
            }
            *out = silu(sum) as f32;
        }
    }
}

/// `x · sigmoid(x)`.
pub(super) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
