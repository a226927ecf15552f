//! Shifts the state by one token and `out[i] = silu(bias[c] + Σ_j weight[c, j] · state[c, j])`.

use super::causal_conv1d::silu;
use crate::shaders::causal_conv1d_update::{Format, Params};

/// `input`: `[sequences, stride]` from column `offset`; `weight`: `[channels, taps]`, `state`: the same of each sequence;
/// `bias`: `[channels]`; `out`: `[sequences, channels]`.
pub fn causal_conv1d_update(
    p: &Params,
    _format: Format,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    state: &mut [f32],
    out: &mut [f32],
) {
    let taps = p.taps as usize;
    let (channels, stride) = (p.channels as usize, p.stride as usize);
    for i in 0..p.sequences as usize * channels {
        let (s, c) = (i / channels, i % channels);
        let (weight, state) = (&weight[c * taps..][..taps], &mut state[i * taps..][..taps]);
        state.rotate_left(1);
        state[taps - 1] = input[s * stride + p.offset as usize + c];
        let sum: f64 = weight.iter().zip(&*state).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        out[i] = silu(f64::from(bias[c]) + sum) as f32;
    }
}
