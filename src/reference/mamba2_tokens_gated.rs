//! Few tokens of one sequence in a Mamba-2 mixer from its first projection into its norm, one after the other.
//! Dao & Gu 2024, arXiv:2405.21060.

use super::mamba2_update_gated::mamba2_update_gated;
use crate::shaders::mamba2_tokens_gated::Params;
use crate::shaders::mamba2_update_gated as one;

/// As [`mamba2_update_gated`] of each of the first `tokens` rows of `input` in turn. `codes` `[rows, d_inner]` int8 and `scales`
/// `[2, rows · d_inner / 32]` of the others are zeros.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn mamba2_tokens_gated(
    p: &Params,
    input: &[f32],
    vectors: &[f32],
    conv_state: &mut [f32],
    ssm_state: &mut [f32],
    tickets: &mut [u32],
    codes: &mut [u32],
    scales: &mut [f32],
) {
    let of_one = one::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        taps: p.taps,
        offset: p.offset,
        gate_offset: p.gate_offset,
        dt_min: p.dt_min,
        dt_max: p.dt_max,
        log_run: p.log_run,
        unit: p.unit,
        stride: p.stride,
        sequences: 1,
    };
    let d_inner = (p.heads * p.head_dim) as usize;
    let groups = d_inner / 32;
    codes.fill(0);
    scales.fill(0.0);
    let (own_scales, squares) = scales.split_at_mut(p.rows as usize * groups);
    let rows = input.chunks(p.stride as usize).take(p.tokens as usize);
    let outputs = codes.chunks_mut(d_inner / 4).zip(own_scales.chunks_mut(groups)).zip(squares.chunks_mut(groups));
    for (row, ((codes, scales), squares)) in rows.zip(outputs) {
        let mut both = vec![0.0; 2 * groups];
        mamba2_update_gated(&of_one, row, vectors, conv_state, ssm_state, tickets, codes, &mut both);
        scales.copy_from_slice(&both[..groups]);
        squares.copy_from_slice(&both[groups..]);
    }
}
