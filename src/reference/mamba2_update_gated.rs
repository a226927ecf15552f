//! One token of each sequence in a Mamba-2 mixer from its first projection into its norm, whose factor is left to others: convolution, recurrence, gate,
//! transform and codes. Dao & Gu 2024, arXiv:2405.21060; Ashkboos et al. 2024, arXiv:2404.00456; Zhao et al. 2023, arXiv:2310.19102.

use super::causal_conv1d::silu;
use super::grouped_rows::put_codes;
use super::hadamard::runs;
use super::mamba2_update::mamba2_update;
use crate::shaders::mamba2_update_gated::Params;
use crate::shaders::{hadamard, mamba2_update as update};

/// `input`: `[sequences, stride]`, z from column `gate_offset`, x | B | C | dt from column `offset`; `vectors`: the convolution's weight
/// `[channels, taps]` and bias `[channels]`, dt_bias, a_log and d, `[3, heads]`, and the norm's weight `[d_inner]`; both states as of
/// [`mamba2_update`]; `codes`: `[sequences, d_inner]` int8; `scales`: `[2, sequences · d_inner / 32]`, of the codes, then sums of squares of what is gated.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn mamba2_update_gated(
    p: &Params,
    input: &[f32],
    vectors: &[f32],
    conv_state: &mut [f32],
    ssm_state: &mut [f32],
    tickets: &mut [u32],
    codes: &mut [u32],
    scales: &mut [f32],
) {
    let (channels, d_inner) = (p.heads * p.head_dim + 2 * p.groups * p.state, (p.heads * p.head_dim) as usize);
    let (weight, rest) = vectors.split_at((channels * p.taps) as usize);
    let (bias, rest) = rest.split_at(channels as usize);
    let (per_head, norm) = rest.split_at(3 * p.heads as usize);
    let of_update = update::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        taps: p.taps,
        offset: p.offset,
        dt_min: p.dt_min,
        dt_max: p.dt_max,
        stride: p.stride,
        sequences: p.sequences,
    };
    let all = p.sequences as usize * d_inner;
    let mut y = vec![0.0; all];
    mamba2_update(&of_update, input, weight, bias, per_head, conv_state, ssm_state, tickets, &mut y);
    let rows = input.chunks(p.stride as usize);
    let z = rows.flat_map(|row| row[p.gate_offset as usize..].iter().take(d_inner));
    let v: Vec<f64> = y.iter().zip(z).map(|(y, z)| f64::from(*y) * silu(f64::from(*z))).collect();
    let weighted: Vec<f32> = v.iter().zip(norm.iter().cycle()).map(|(v, w)| (v * f64::from(*w)) as f32).collect();
    let mut turned = vec![0.0; all];
    let transform = hadamard::Params { count: d_inner as u32, log_run: p.log_run, scale: p.unit };
    runs(&transform, &weighted, &mut turned);
    let gated: Vec<f32> = v.iter().map(|v| *v as f32).collect();
    put_codes(&turned, &gated, codes, scales);
}
