//! Shifts the state by one token and `out[c] = silu(bias[c] + Σ_j weight[c, j] · state[c, j])`.

use super::causal_conv1d::silu;
use crate::shaders::causal_conv1d_update::Params;

/// `input`: `[1, stride]` from column `offset`; `weight`, `state`: `[channels, taps]`; `bias`, `out`: `[channels]`.
pub fn causal_conv1d_update(
    p: &Params,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    state: &mut [f32],
    out: &mut [f32],
) {
    let taps = p.taps as usize;
    for c in 0..p.channels as usize {
        let (weight, state) = (&weight[c * taps..][..taps], &mut state[c * taps..][..taps]);
        state.rotate_left(1);
        state[taps - 1] = input[p.offset as usize + c];
        let sum: f64 = weight.iter().zip(&*state).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
        out[c] = silu(f64::from(bias[c]) + sum) as f32;
    }
}
