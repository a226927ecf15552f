//! Few tokens of one sequence between a Mamba-2 mixer's projections, one after the other. Dao & Gu 2024, arXiv:2405.21060.

use super::mamba2_update::mamba2_update;
use crate::shaders::mamba2_tokens::Params;
use crate::shaders::mamba2_update as one;

/// As [`mamba2_update`] of each of the `tokens` rows of `input` in turn; `y`: `[tokens, heads · head_dim]`.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn mamba2_tokens(
    p: &Params,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    per_head: &[f32],
    conv_state: &mut [f32],
    ssm_state: &mut [f32],
    tickets: &mut [u32],
    y: &mut [f32],
) {
    let of_one = one::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        taps: p.taps,
        offset: p.offset,
        dt_min: p.dt_min,
        dt_max: p.dt_max,
        stride: p.stride,
        sequences: 1,
    };
    let rows = input.chunks(p.stride as usize).take(p.tokens as usize);
    for (row, y) in rows.zip(y.chunks_mut((p.heads * p.head_dim) as usize)) {
        mamba2_update(&of_one, row, weight, bias, per_head, conv_state, ssm_state, tickets, y);
    }
}
