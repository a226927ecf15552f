//! One token of the Mamba-2 recurrence in each of several sequences.

use super::Columns;
use super::bindings::selective_state_update::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, dt_limit, dt_range, expect_columns, expect_f32, row, sequences, sequences_of};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::selective_state_update::Params;
use crate::tensor::DType;

const NAME: &str = "selective_state_update";
/// Rows of the state of one workgroup.
const ROWS: usize = 8;

/// `S = exp(dt A) S + dt x Bᵀ`, `y = S C + D x` with `dt = clamp(softplus(raw + dt_bias), dt_limit)` and
/// `A = -exp(a_log)`. Dao & Gu 2024, arXiv:2405.21060.
///
/// `xbc`: `[sequences, conv_dim]`, columns x | B | C; `dt_raw`: `[sequences, heads]` columns; `dt_bias`, `a_log`, `d`:
/// `[heads]`; `ssm_state`: `[sequences · heads, head_dim · state]`, updated; `y`: `[sequences, d_inner]`; f32. `dims.chunk` plays no part.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
#[expect(clippy::too_many_arguments, reason = "one argument a tensor of the formula")]
pub fn selective_state_update(
    plan: &mut Plan,
    xbc: &DeviceTensor,
    dt_raw: &Columns<'_>,
    dt_bias: &DeviceTensor,
    a_log: &DeviceTensor,
    d: &DeviceTensor,
    ssm_state: &DeviceTensor,
    y: &DeviceTensor,
    dims: SsdDims,
    dt_limit: (f32, f32),
) -> Result<()> {
    dims.check(NAME)?;
    let (dt_min, dt_max) = dt_range(NAME, dt_limit)?;
    let sequences = sequences_of(ssm_state, dims.heads);
    expect_columns(NAME, "dt_raw", dt_raw, sequences, dims.heads)?;
    expect_f32(
        NAME,
        &[
            ("xbc", xbc, [sequences, dims.conv_dim()]),
            ("dt_bias", dt_bias, row(dims.heads)),
            ("a_log", a_log, row(dims.heads)),
            ("d", d, row(dims.heads)),
            ("ssm_state", ssm_state, [sequences * dims.heads, dims.head_dim * dims.state]),
            ("y", y, [sequences, dims.d_inner()]),
        ],
    )?;
    let params = Params {
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        groups: dims.groups as u32,
        state: dims.state as u32,
        offset: dt_raw.offset as u32,
        dt_min,
        dt_max,
        stride: dt_raw.stride() as u32,
        sequences: sequences as u32,
    };
    let bindings = Bindings { xbc, dt_raw: dt_raw.tensor, dt_bias, a_log, d, ssm_state, y };
    launch(plan, params, bindings, Grid::cover(sequences * dims.d_inner(), ROWS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $dims:tt, $bias:expr, $a_log:expr $(; $low:expr, $high:expr)?) => {
        case!($name, $dims, $bias, $a_log, 1.0 $(; $low, $high)?)
    };
    ($name:expr, [$heads:expr, $head_dim:expr, $groups:expr, $state:expr], $bias:expr, $a_log:expr, $sequences:expr $(; $low:expr, $high:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("groups", $groups),
                ("state", $state),
                ("bias", $bias),
                ("a_log", $a_log),
                ("chunk", 1.0),
                ("sequences", $sequences),
                $(("dt_min", $low), ("dt_max", $high),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano", [8.0, 32.0, 2.0, 32.0], -4.0, 1.5),
    case!("small", [16.0, 64.0, 2.0, 128.0], -4.0, 1.5),
    case!("nemotron_nano_9b_heads", [6.0, 80.0, 2.0, 128.0], -4.0, 1.5),
    case!("narrow_state", [3.0, 4.0, 1.0, 12.0], -4.0, 1.5),
    case!("wide_state", [4.0, 8.0, 2.0, 260.0], -4.0, 1.5),
    case!("weak_decay", [4.0, 16.0, 4.0, 40.0], -2.0, -9.2),
    case!("strong_decay_large_dt", [4.0, 16.0, 2.0, 96.0], 8.0, 2.77),
    case!("three_sequences", [6.0, 12.0, 2.0, 40.0], -4.0, 1.5, 3.0),
    case!("dt_limited", [16.0, 4.0, 2.0, 16.0], -1.0, 1.5; 0.2, 0.5),
    // docs/driver-faults.md: mamba #923 (decay in 16 bits), exp under fast math.
    case!("mamba_923_decay_near_zero", [4.0, 16.0, 2.0, 16.0], -2.0, -20.0),
    case!("fast_math_exp_minus_1e5", [4.0, 16.0, 2.0, 16.0], 1e4, 2.77),
    case!("fast_math_softplus_minus_1e4", [4.0, 16.0, 2.0, 16.0], -1e4, 2.77),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let (heads, sequences) = (dims.heads, sequences(a));
    let xbc = s.input([sequences, dims.conv_dim()], Fill::Normal(1.0))?;
    let raw = s.input([sequences, heads + 3], Fill::Normal(2.0))?;
    let biases: Vec<f32> = s.values(heads, Fill::Normal(1.0)).iter().map(|b| b + a.f64("bias") as f32).collect();
    let dt_bias = s.device().upload_f32([heads], &biases)?;
    let rates: Vec<f32> = s.values(heads, Fill::Normal(0.3)).iter().map(|r| r + a.f64("a_log") as f32).collect();
    let a_log = s.device().upload_f32([heads], &rates)?;
    let d = s.input([heads], Fill::Normal(1.0))?;
    let ssm_state = s.state("ssm_state", [sequences * heads, dims.head_dim * dims.state], Fill::Normal(1.0))?;
    let y = s.output("y", DType::F32, [sequences, dims.d_inner()])?;
    let raw = Columns::new(NAME, &raw, 3, heads)?;
    let limit = dt_limit(a);
    selective_state_update(s.plan(), &xbc, &raw, &dt_bias, &a_log, &d, &ssm_state, &y, dims, limit)
}

fn work(a: &Args) -> Work {
    let dims = dims(a);
    let (n, state) = (sequences(a), dims.state_len());
    Work { bytes: n * (8 * state + 4 * (dims.conv_dim() + dims.d_inner())), ops: n * 5 * state }
}
