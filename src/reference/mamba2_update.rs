//! One token of each sequence between a Mamba-2 mixer's projections: the convolution, then the recurrence. Dao & Gu 2024, arXiv:2405.21060.

use super::causal_conv1d_update::causal_conv1d_update;
use super::selective_state_update::selective_state_update;
use crate::shaders::mamba2_update::Params;
use crate::shaders::{causal_conv1d_update as conv, selective_state_update as update};

/// `input`: `[sequences, stride]`, x | B | C | dt from column `offset`; `weight`: `[channels, taps]`, `conv_state` the same
/// of each sequence; `bias`: `[channels]`; `per_head`: `[3, heads]`, dt_bias, a_log and d; `ssm_state`:
/// `[sequences · heads, head_dim · state]`; `y`: `[sequences, heads · head_dim]`. `_tickets` belong to the workgroups of a GPU.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn mamba2_update(
    p: &Params,
    input: &[f32],
    weight: &[f32],
    bias: &[f32],
    per_head: &[f32],
    conv_state: &mut [f32],
    ssm_state: &mut [f32],
    _tickets: &mut [u32],
    y: &mut [f32],
) {
    let channels = p.heads * p.head_dim + 2 * p.groups * p.state;
    let mut xbc = vec![0.0; (p.sequences * channels) as usize];
    let of_conv = conv::Params { channels, taps: p.taps, offset: p.offset, stride: p.stride, sequences: p.sequences };
    causal_conv1d_update(&of_conv, conv::Format::Any, input, weight, bias, conv_state, &mut xbc);
    let of_update = update::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        offset: p.offset + channels,
        dt_min: p.dt_min,
        dt_max: p.dt_max,
        stride: p.stride,
        sequences: p.sequences,
    };
    let (dt_bias, rest) = per_head.split_at(p.heads as usize);
    let (a_log, d) = rest.split_at(p.heads as usize);
    selective_state_update(&of_update, &xbc, input, dt_bias, a_log, d, ssm_state, y);
}
