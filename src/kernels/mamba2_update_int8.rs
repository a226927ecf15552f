//! One token of each sequence in a Mamba-2 mixer, from its first projection to its norm, on stored states.

use super::bindings::mamba2_update_int8::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::selective_state_update_int8 as recurrence;
use super::ssd::{SsdDims, dims, dt_limit, dt_range, expect_columns, expect_f32};
use super::ssm_load::{self, StoredState, expect_clock, heads_each, stored_case};
use super::{Columns, expect};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::mamba2_update_int8::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "mamba2_update_int8";
/// Taps of the convolution: a window is 16 bytes.
const TAPS: usize = 4;

/// Does [`mamba2_update_int8`] take so many sequences of mixers of these sizes? There must be so many that a workgroup takes all heads of
/// a group. Else [`super::causal_conv1d_update`] and [`super::selective_state_update_int8`] do the same in two launches.
#[must_use]
pub fn fuses_stored(dims: SsdDims, taps: usize, sequences: usize) -> bool {
    let (each, _) = heads_each(dims, sequences);
    taps == TAPS && each as usize == dims.heads / dims.groups
}

/// The vectors of a mixer as [`mamba2_update_int8`] takes them: the convolution's weight `[conv_dim, taps]` and bias, then dt_bias, a_log and
/// d, and zeros up to whole 16 bytes.
#[must_use]
pub fn stored_vectors(conv_weight: &[f32], conv_bias: &[f32], per_head: [&[f32]; 3]) -> Vec<f32> {
    let mut all = [conv_weight, conv_bias, &per_head.concat()].concat();
    all.resize(all.len().next_multiple_of(4), 0.0);
    all
}

/// [`super::causal_conv1d_update`] of x | B | C with four taps, then [`super::selective_state_update_int8`] of the result.
/// Dao & Gu 2024, arXiv:2405.21060.
///
/// `raw`: `[sequences, conv_dim + heads]` columns, x | B | C | dt; `vectors`: of [`stored_vectors`]; `conv_state`: `[sequences · conv_dim, 4]`, updated; `clock`: `[2]` u32, tokens so far
/// and recent tokens; `y`: `[sequences, d_inner]`. `dims.chunk` plays no part.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault, sizes that [`fuses_stored`] denies included.
#[expect(clippy::too_many_arguments, reason = "one argument a tensor of the formula")]
pub fn mamba2_update_int8(
    plan: &mut Plan,
    raw: &Columns<'_>,
    vectors: &DeviceTensor,
    conv_state: &DeviceTensor,
    stored: &StoredState,
    clock: &DeviceTensor,
    y: &DeviceTensor,
    dims: SsdDims,
    dt_limit: (f32, f32),
) -> Result<()> {
    stored.check(NAME, dims)?;
    expect_clock(NAME, clock)?;
    let (dt_min, dt_max) = dt_range(NAME, dt_limit)?;
    let (sequences, channels) = (stored.sequences, dims.conv_dim());
    if !fuses_stored(dims, TAPS, sequences) {
        let reason = format!("{sequences} sequences are too few for workgroups that take whole groups of heads");
        return Err(Error::argument(format!("{NAME}: `stored`"), reason));
    }
    expect_columns(NAME, "raw", raw, sequences, channels + dims.heads)?;
    expect_f32(
        NAME,
        &[("conv_state", conv_state, [sequences * channels, TAPS]), ("y", y, [sequences, dims.d_inner()])],
    )?;
    expect(NAME, "vectors", vectors, [((TAPS + 1) * channels + 3 * dims.heads).next_multiple_of(4)])?;
    let StoredState { codes, scales, recent, block, .. } = stored;
    let (each, grid) = heads_each(dims, sequences);
    let format = if dims.state.is_multiple_of(16) { Format::Quads } else { Format::Any };
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        stride: raw.stride() as u32,
        offset: raw.offset as u32,
        block: *block as u32,
        window: stored.window() as u32,
        sequences: sequences as u32,
        each,
        dt_min,
        dt_max,
    };
    let bindings = Bindings { input: raw.tensor, vectors, codes, scales, clock, conv_state, recent, y };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    stored_case!("one_head_a_group", [4.0, 20.0, 4.0, 40.0], 1.0, 8.0, 2.0, 0.0, 3.0),
    stored_case!("just_rounded", [4.0, 16.0, 4.0, 64.0], 1.0, 4.0, 0.0, 0.0, 2.0),
    stored_case!("rounded_at_each_token", [2.0, 16.0, 2.0, 64.0], 0.0, 1.0, 0.0, 0.0, 5.0),
    stored_case!("two_heads_a_group", [256.0, 4.0, 128.0, 16.0], 1.0, 4.0, 3.0, 0.0, 4.0),
    stored_case!("more_rows_than_threads", [64.0, 36.0, 8.0, 16.0], 1.0, 4.0, 3.0, 0.0, 64.0),
    stored_case!("nemotron_8b_state", [16.0, 20.0, 8.0, 128.0], 1.0, 8.0, 5.0, 0.0, 64.0),
    stored_case!("dt_limited", [16.0, 4.0, 16.0, 16.0], 1.0, 8.0, 3.0, 0.0, 4.0; 0.1, 0.15),
    stored_case!("widest", [2.0, 4.0, 2.0, 256.0], 1.0, 64.0, 63.0, 0.0, 2.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let (heads, channels, sequences) = (dims.heads, dims.conv_dim(), a.usize("sequences"));
    let raw = s.input([sequences, 4 + channels + heads + 3], Fill::Normal(1.0))?;
    let conv = s.values(5 * channels, Fill::Normal(0.5));
    let mut per_head = s.values(3 * heads, Fill::Normal(0.3));
    per_head[..heads].iter_mut().for_each(|bias| *bias -= 2.0);
    let (weight, bias) = conv.split_at(TAPS * channels);
    let (dt_bias, rest) = per_head.split_at(heads);
    let (a_log, d) = rest.split_at(heads);
    let vectors = stored_vectors(weight, bias, [dt_bias, a_log, d]);
    let vectors = s.device().upload_f32([vectors.len()], &vectors)?;
    let conv_state = s.state("conv_state", [sequences * channels, TAPS], Fill::Normal(1.0))?;
    let (stored, drawn, clock) = ssm_load::stored(s, a, dims)?;
    let recent = s.state_of("recent", stored.recent.shape, &drawn.recent)?;
    let y = s.output("y", DType::F32, [sequences, dims.d_inner()])?;
    let raw = Columns::new(NAME, &raw, 4, channels + heads)?;
    let stored = StoredState { recent, ..stored };
    let limit = dt_limit(a);
    mamba2_update_int8(s.plan(), &raw, &vectors, &conv_state, &stored, &clock, &y, dims, limit)
}

fn work(a: &Args) -> Work {
    let conv = a.usize("sequences") * dims(a).conv_dim();
    let update = recurrence::work(a);
    Work { bytes: update.bytes + 8 * TAPS * conv, ops: update.ops + conv * (2 * TAPS + 4) }
}
