//! One token of the Mamba-2 recurrence on a stored state.

use super::Columns;
use super::bindings::selective_state_update_int8::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, dt_limit, dt_range, expect_columns, expect_f32};
use super::ssm_load::{self, StoredState, expect_clock, heads_each, stored_case, stored_cases};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::selective_state_update_int8::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "selective_state_update_int8";

/// As [`super::selective_state_update`] on a [`StoredState`]: the token is appended to the recent ones (as their last
/// where there is no room: round the state first), and `y` is exact but for the last rounding of the state.
///
/// `xbc`: `[sequences, conv_dim]`; `dt_raw`: `[sequences, heads]` columns; `per_head`: `[3, heads]`, rows dt_bias, a_log and d;
/// `clock`: `[2]` u32, tokens so far and recent tokens, of all sequences as many; `y`: `[sequences, d_inner]`.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
#[expect(clippy::too_many_arguments, reason = "one argument a tensor of the formula")]
pub fn selective_state_update_int8(
    plan: &mut Plan,
    xbc: &DeviceTensor,
    dt_raw: &Columns<'_>,
    per_head: &DeviceTensor,
    stored: &StoredState,
    clock: &DeviceTensor,
    y: &DeviceTensor,
    dims: SsdDims,
    dt_limit: (f32, f32),
) -> Result<()> {
    stored.check(NAME, dims)?;
    expect_clock(NAME, clock)?;
    let (dt_min, dt_max) = dt_range(NAME, dt_limit)?;
    let sequences = stored.sequences;
    expect_columns(NAME, "dt_raw", dt_raw, sequences, dims.heads)?;
    expect_f32(
        NAME,
        &[
            ("xbc", xbc, [sequences, dims.conv_dim()]),
            ("per_head", per_head, [3, dims.heads]),
            ("y", y, [sequences, dims.d_inner()]),
        ],
    )?;
    let StoredState { codes, scales, recent, block, .. } = stored;
    let (each, grid) = heads_each(dims, sequences);
    let format = if dims.state.is_multiple_of(16) { Format::Quads } else { Format::Any };
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        stride: dt_raw.stride() as u32,
        offset: dt_raw.offset as u32,
        block: *block as u32,
        window: stored.window() as u32,
        sequences: sequences as u32,
        each,
        dt_min,
        dt_max,
    };
    let bindings = Bindings { xbc, dt_raw: dt_raw.tensor, per_head, codes, scales, clock, recent, y };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = stored_cases![
    stored_case!("dt_limited", [16.0, 4.0, 2.0, 16.0], 1.0, 8.0, 3.0, 0.0, 1.0; 0.1, 0.15),
    stored_case!("three_sequences", [4.0, 80.0, 2.0, 64.0], 1.0, 8.0, 5.0, 0.0, 3.0),
    stored_case!("sequences_of_many_heads", [256.0, 36.0, 1.0, 32.0], 1.0, 4.0, 3.0, 0.0, 16.0),
    stored_case!("five_sequences_of_many_recent", [2.0, 36.0, 1.0, 128.0], 1.0, 40.0, 37.0, 0.0, 5.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let heads = dims.heads;
    let sequences = a.get("sequences").map_or(1, |n| n as usize);
    let xbc = s.input([sequences, dims.conv_dim()], Fill::Normal(1.0))?;
    let raw = s.input([sequences, heads + 3], Fill::Normal(2.0))?;
    let mut per_head = s.values(3 * heads, Fill::Normal(0.3));
    per_head[..heads].iter_mut().for_each(|bias| *bias -= 2.0);
    let per_head = s.device().upload_f32([3, heads], &per_head)?;
    let (stored, drawn, clock) = ssm_load::stored(s, a, dims)?;
    let recent = s.state_of("recent", stored.recent.shape, &drawn.recent)?;
    let y = s.output("y", DType::F32, [sequences, dims.d_inner()])?;
    let raw = Columns::new(NAME, &raw, 3, heads)?;
    let stored = StoredState { recent, ..stored };
    let limit = dt_limit(a);
    selective_state_update_int8(s.plan(), &xbc, &raw, &per_head, &stored, &clock, &y, dims, limit)
}

pub(super) fn work(a: &Args) -> Work {
    let (dims, sequences) = (dims(a), a.get("sequences").map_or(1, |n| n as usize));
    let recent = a.usize("recent") * (dims.heads + dims.d_inner() + dims.groups * dims.state);
    Work {
        bytes: sequences * (dims.state_len() + 4 * (recent + dims.conv_dim() + 3 * dims.d_inner())),
        ops: sequences * (2 * dims.state_len() + 2 * recent),
    }
}
