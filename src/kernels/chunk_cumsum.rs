//! Step sizes of the Mamba-2 recurrence and their decays summed within chunks.

use super::Columns;
use super::bindings::chunk_cumsum::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::ssd::{SsdDims, dims, dt_range, expect_columns, expect_f32, row};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::chunk_cumsum::Params;
use crate::tensor::DType;

const NAME: &str = "chunk_cumsum";
/// Heads of a workgroup.
const HEADS: usize = 8;

/// `dt = clamp(softplus(raw + dt_bias), dt_limit)`; `da_cumsum` = inclusive sum of `dt · -exp(a_log)` within each
/// chunk. Dao & Gu 2024, arXiv:2405.21060.
///
/// `dt_raw`: `[tokens, heads]` columns; `dt_bias`, `a_log`: `[heads]`; `dt`, `da_cumsum`: `[heads, tokens]`; f32.
/// `dt_limit` may end at infinity.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
#[expect(clippy::too_many_arguments, reason = "one argument a tensor of the formula")]
pub fn chunk_cumsum(
    plan: &mut Plan,
    dt_raw: &Columns<'_>,
    dt_bias: &DeviceTensor,
    a_log: &DeviceTensor,
    dt: &DeviceTensor,
    da_cumsum: &DeviceTensor,
    dims: SsdDims,
    dt_limit: (f32, f32),
) -> Result<()> {
    dims.check(NAME)?;
    let (dt_min, dt_max) = dt_range(NAME, dt_limit)?;
    let (tokens, heads) = (dt_raw.tensor.shape.rows(), dims.heads);
    expect_columns(NAME, "dt_raw", dt_raw, tokens, heads)?;
    expect_f32(
        NAME,
        &[
            ("dt_bias", dt_bias, row(heads)),
            ("a_log", a_log, row(heads)),
            ("dt", dt, [heads, tokens]),
            ("da_cumsum", da_cumsum, [heads, tokens]),
        ],
    )?;
    let params = Params {
        tokens: tokens as u32,
        heads: heads as u32,
        chunk: dims.chunk as u32,
        offset: dt_raw.offset as u32,
        stride: dt_raw.stride() as u32,
        dt_min,
        dt_max,
    };
    let bindings = Bindings { dt_raw: dt_raw.tensor, dt_bias, a_log, dt, da_cumsum };
    launch(plan, params, bindings, Grid::linear(dims.chunks(tokens) * heads.div_ceil(HEADS)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $tokens:expr, $heads:expr, $chunk:expr, $a_log:expr, $bias:expr, $max:expr) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("heads", $heads),
                ("chunk", $chunk),
                ("a_log", $a_log),
                ("bias", $bias),
                ("max", $max),
                ("head_dim", 4.0),
                ("groups", 1.0),
                ("state", 4.0),
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano_partial_last_chunk", 200.0, 8.0, 128.0, 1.5, -4.0, f64::INFINITY),
    case!("one_token", 1.0, 128.0, 128.0, 1.5, -4.0, f64::INFINITY),
    case!("one_short_of_a_chunk", 15.0, 3.0, 16.0, 1.5, 0.0, f64::INFINITY),
    case!("whole_chunk", 16.0, 3.0, 16.0, 1.5, 0.0, f64::INFINITY),
    case!("one_past_a_chunk", 17.0, 3.0, 16.0, 1.5, 0.0, f64::INFINITY),
    case!("chunk_of_three_tiles", 400.0, 2.0, 300.0, 1.5, -2.0, f64::INFINITY),
    case!("weak_decay", 130.0, 4.0, 64.0, -9.2, -2.0, f64::INFINITY),
    case!("strong_decay_large_dt", 130.0, 4.0, 64.0, 2.77, 15.0, f64::INFINITY),
    case!("dt_limited", 40.0, 4.0, 16.0, 1.5, 0.0, 0.8),
    // docs/driver-faults.md: mlx-lm #988 (dt clamp), mamba #923 (decay in 16 bits), exp and log under fast math.
    case!("mlx_988_dt_clamp", 67.0, 3.0, 16.0, 1.5, -1.0, 0.5),
    case!("mamba_923_decay_near_zero", 130.0, 4.0, 64.0, -20.0, -2.0, f64::INFINITY),
    case!("fast_math_softplus_plus_1e4", 20.0, 3.0, 16.0, 1.5, 1e4, f64::INFINITY),
    case!("fast_math_softplus_minus_1e4", 20.0, 3.0, 16.0, 1.5, -1e4, f64::INFINITY),
    case!("fast_math_softplus_at_its_threshold", 20.0, 3.0, 16.0, 1.5, 20.0, f64::INFINITY),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let dims = dims(a);
    let (tokens, heads) = (a.usize("tokens"), dims.heads);
    let raw = s.input([tokens, heads + 5], Fill::Normal(2.0))?;
    let biases: Vec<f32> = s.values(heads, Fill::Normal(1.0)).iter().map(|b| b + a.f64("bias") as f32).collect();
    let dt_bias = s.device().upload_f32([heads], &biases)?;
    let rates: Vec<f32> = s.values(heads, Fill::Normal(0.3)).iter().map(|r| r + a.f64("a_log") as f32).collect();
    let a_log = s.device().upload_f32([heads], &rates)?;
    let dt = s.output("dt", DType::F32, [heads, tokens])?;
    let da_cumsum = s.output("da_cumsum", DType::F32, [heads, tokens])?;
    let raw = Columns::new(NAME, &raw, 5, heads)?;
    // With a largest step there is a smallest one, a tenth of it.
    let max = a.f64("max") as f32;
    let limit = (if max.is_finite() { max / 10.0 } else { 0.0 }, max);
    chunk_cumsum(s.plan(), &raw, &dt_bias, &a_log, &dt, &da_cumsum, dims, limit)
}

fn work(a: &Args) -> Work {
    let n = a.usize("tokens") * a.usize("heads");
    Work { bytes: 12 * n, ops: 12 * n }
}
