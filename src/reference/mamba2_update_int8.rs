//! One token of each sequence between a Mamba-2 mixer's projections, on a stored state: the convolution of four taps, then the recurrence.
//! Dao & Gu 2024, arXiv:2405.21060.

use super::causal_conv1d_update::causal_conv1d_update;
use super::selective_state_update_int8::selective_state_update_int8;
use crate::shaders::mamba2_update_int8::{Format, Params};
use crate::shaders::{causal_conv1d_update as conv, selective_state_update_int8 as update};

/// `input`: `[sequences, stride]`, x | B | C | dt from column `offset`; `vectors`: the convolution's weight `[channels, 4]` and bias
/// `[channels]`, then dt_bias, a_log and d, `[3, heads]`, and zeros up to whole 16 bytes; `conv_state`: `[sequences · channels, 4]`; the others as of
/// [`selective_state_update_int8`].
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn mamba2_update_int8(
    p: &Params,
    _format: Format,
    input: &[f32],
    vectors: &[f32],
    codes: &[u32],
    scales: &[f32],
    clock: &[u32],
    conv_state: &mut [f32],
    recent: &mut [f32],
    y: &mut [f32],
) {
    let channels = p.heads * p.head_dim + 2 * p.groups * p.state;
    let (weight, rest) = vectors.split_at(4 * channels as usize);
    let (bias, rest) = rest.split_at(channels as usize);
    let per_head = &rest[..3 * p.heads as usize];
    let mut xbc = vec![0.0; (p.sequences * channels) as usize];
    let of_conv = conv::Params { channels, taps: 4, offset: p.offset, stride: p.stride, sequences: p.sequences };
    causal_conv1d_update(&of_conv, conv::Format::Four, input, weight, bias, conv_state, &mut xbc);
    let of_update = update::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        stride: p.stride,
        offset: p.offset + channels,
        block: p.block,
        window: p.window,
        sequences: p.sequences,
        each: p.each,
        dt_min: p.dt_min,
        dt_max: p.dt_max,
    };
    let format = update::Format::Any;
    selective_state_update_int8(&of_update, format, &xbc, input, per_head, codes, scales, clock, recent, y);
}
