//! A Hadamard transform of few rows, spread over many workgroups.

use super::bindings::hadamard_runs::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor, hadamard_signs};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::hadamard_runs::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "hadamard_runs";

/// Rows up to which one dispatch that reads `order` times as much beats two that do not: each workgroup reads its block
/// from the cache, 7 MB a row of 84 x 256 columns.
const FEW: usize = 8;

/// Up to how many of `rows` rows this is the faster way, where it takes runs of this length.
pub(super) fn most(rows: usize, run: usize) -> Option<usize> {
    fits(run).then_some(rows.min(FEW))
}

fn fits(run: usize) -> bool {
    run.is_power_of_two() && (4..=1024).contains(&run)
}

/// `out = scale * (H_order ⊗ H_run) x` for each block of `order * run` columns, `H_run` Sylvester's matrix, and the largest
/// magnitude of each run of it. QuaRot, arXiv:2404.00456.
///
/// `x`, `out`: `[rows, cols]` f32, `order * run` dividing `cols`; `signs`: of [`hadamard_signs`], `[order, order / 32]`;
/// `maxima`: `[rows, cols / run]` f32, written; `run`: a power of two from 4 to 1024.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for a run that does not fit or
/// blocks that do not divide `cols`.
pub fn hadamard_runs(
    plan: &mut Plan,
    x: &DeviceTensor,
    signs: &DeviceTensor,
    out: &DeviceTensor,
    maxima: &DeviceTensor,
    run: usize,
    scale: f32,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    f32_tensor(NAME, "out", out)?;
    f32_tensor(NAME, "maxima", maxima)?;
    expect_dtype(NAME, "signs", signs, DType::U32, "u32")?;
    let (rows, cols, order) = (x.shape.rows(), x.shape.cols(), signs.shape.rows());
    if !fits(run) || order == 0 || !cols.is_multiple_of(order * run) {
        let reason = format!("{order} runs of {run} columns, of {cols}");
        return Err(Error::argument(format!("{NAME}: `run`"), reason));
    }
    expect(NAME, "signs", signs, [order, order.div_ceil(32)])?;
    expect(NAME, "out", out, x.shape)?;
    expect(NAME, "maxima", maxima, [rows, cols / run])?;
    let (rows, cols) = (rows as u32, cols as u32);
    let params = Params { rows, cols, order: order as u32, log_run: run.ilog2(), unit: scale };
    let format = if run == 256 && order <= 96 { Format::RunsOf256 } else { Format::Any };
    launch(plan, format, params, Bindings { x, signs, out, maxima }, Grid::linear(x.shape.elements() / run))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_mlp", args: &[("rows", 3.0), ("cols", 1344.0), ("order", 84.0), ("run", 16.0)] },
    Case { name: "two_blocks", args: &[("rows", 2.0), ("cols", 1536.0), ("order", 12.0), ("run", 64.0)] },
    Case { name: "shortest_run", args: &[("rows", 2.0), ("cols", 80.0), ("order", 20.0), ("run", 4.0)] },
    Case { name: "longest_run", args: &[("rows", 1.0), ("cols", 12288.0), ("order", 12.0), ("run", 1024.0)] },
    Case { name: "order_2_of_one_team", args: &[("rows", 1.0), ("cols", 2048.0), ("order", 2.0), ("run", 1024.0)] },
    Case { name: "nemotron_8b_mlp_token", args: &[("rows", 1.0), ("cols", 21504.0), ("order", 84.0), ("run", 256.0)] },
    Case { name: "nemotron_8b_mlp_tokens", args: &[("rows", 3.0), ("cols", 21504.0), ("order", 84.0), ("run", 256.0)] },
    Case { name: "one_run_of_256", args: &[("rows", 2.0), ("cols", 256.0), ("order", 1.0), ("run", 256.0)] },
    Case { name: "blocks_of_four_runs", args: &[("rows", 2.0), ("cols", 3072.0), ("order", 4.0), ("run", 256.0)] },
    Case { name: "blocks_of_20_runs", args: &[("rows", 1.0), ("cols", 10240.0), ("order", 20.0), ("run", 256.0)] },
    Case { name: "28_runs", args: &[("rows", 2.0), ("cols", 7168.0), ("order", 28.0), ("run", 256.0)] },
    Case { name: "96_runs", args: &[("rows", 1.0), ("cols", 24576.0), ("order", 96.0), ("run", 256.0)] },
    Case { name: "more_runs_than_fit", args: &[("rows", 1.0), ("cols", 25600.0), ("order", 100.0), ("run", 256.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, order, run) = (a.usize("rows"), a.usize("cols"), a.usize("order"), a.usize("run"));
    let x = s.input([rows, cols], Fill::Outliers)?;
    let signs = hadamard_signs(s.device(), order)?;
    let out = s.output("out", DType::F32, [rows, cols])?;
    let maxima = s.output("maxima", DType::F32, [rows, cols / run])?;
    hadamard_runs(s.plan(), &x, &signs, &out, &maxima, run, 1.0 / ((order * run) as f32).sqrt())
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    let (order, run) = (a.usize("order"), a.usize("run"));
    Work { bytes: 8 * n + 4 * n / run, ops: n * (order + run.ilog2() as usize + 2) }
}
