//! `state` = the last `taps` of `[state, inputs]`, oldest first.

use crate::shaders::causal_conv1d_state::Params;

/// `input`: `[tokens, stride]` from column `offset`; `state`: `[channels, taps]`.
pub fn causal_conv1d_state(p: &Params, input: &[f32], state: &mut [f32]) {
    let (tokens, taps) = (p.tokens as usize, p.taps as usize);
    let (offset, stride) = (p.offset as usize, p.stride as usize);
    for (c, state) in state.chunks_exact_mut(taps).enumerate() {
        let inputs = (0..tokens).map(|t| input[t * stride + offset + c]);
        let all: Vec<f32> = state.iter().copied().chain(inputs).collect();
        state.copy_from_slice(&all[tokens..]);
    }
}
