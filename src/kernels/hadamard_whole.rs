//! A whole Hadamard transform of rows in one dispatch.

use super::bindings::hadamard_whole::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, expect_dtype, f32_tensor, hadamard_signs};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::hadamard::factor;
use crate::shaders::hadamard_whole::Params;
use crate::tensor::DType;

pub(super) const NAME: &str = "hadamard_whole";
/// Columns of a run.
pub(super) const RUN: usize = 256;
/// Most runs of a row.
const MOST: usize = 84;

/// Order of the dense factor of a transform of rows of `cols` columns in blocks of `block`, where a row is one block, of up to 84
/// runs of 256 columns, as many as there is a matrix of: 1536 columns are 12 runs of 128, but there is none of order 6.
pub(super) fn order(cols: usize, block: usize) -> Option<usize> {
    let runs = block / RUN;
    let whole = cols == block && block.is_multiple_of(RUN) && runs <= MOST;
    (whole && factor(runs).is_some()).then_some(runs)
}

/// Is this kernel, which does a whole transform, the faster way on this device? On matrices that passed their self-test only: without, a pass a
/// factor is, over many workgroups.
pub(super) fn pays(device: &Device, kernel: &'static str) -> bool {
    device.gpu().is_some_and(|g| g.caps.coop_matrix && g.trusts(kernel, "coop") != Some(false))
}

/// `out = scale * (H_order ⊗ H_256) x` for each row, `H_256` Sylvester's matrix. QuaRot, arXiv:2404.00456.
///
/// `x`, `out`: `[rows, 256 * order]` f32; `signs`: of [`hadamard_signs`], `[order, order / 32]`, `order` up to 84.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for rows that do not fit.
pub fn hadamard_whole(
    plan: &mut Plan,
    x: &DeviceTensor,
    signs: &DeviceTensor,
    out: &DeviceTensor,
    scale: f32,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    expect_dtype(NAME, "signs", signs, DType::U32, "u32")?;
    f32_tensor(NAME, "out", out)?;
    let (rows, cols, runs) = (x.shape.rows(), x.shape.cols(), signs.shape.rows());
    expect(NAME, "signs", signs, [runs, runs.div_ceil(32)])?;
    expect(NAME, "out", out, x.shape)?;
    if order(cols, cols) != Some(runs) {
        return Err(Error::argument(format!("{NAME}: `x`"), format!("{runs} runs of {RUN} columns, of {cols}")));
    }
    let params = Params { rows: rows as u32, order: runs as u32, unit: scale };
    launch(plan, params, Bindings { x, signs, out }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_run", args: &[("rows", 3.0), ("order", 1.0), ("size", 1.0)] },
    Case { name: "order_12", args: &[("rows", 5.0), ("order", 12.0), ("size", 1.0)] },
    Case { name: "nemotron_8b_mlp_tokens", args: &[("rows", 3.0), ("order", 84.0), ("size", 1.0)] },
    Case { name: "nemotron_4b_mlp_12_by_4", args: &[("rows", 2.0), ("order", 48.0), ("size", 1.0)] },
    Case { name: "order_36", args: &[("rows", 2.0), ("order", 36.0), ("size", 1.0)] },
    Case { name: "several_rows_a_workgroup", args: &[("rows", 1027.0), ("order", 1.0), ("size", 1.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e5)] },
    Case { name: "near_the_largest_f32", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e33)] },
    Case { name: "tiny_values", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e-33)] },
];

/// Rows of a case, and signs of their order.
pub(super) fn operands(s: &mut Setup, a: &Args) -> Result<(DeviceTensor, DeviceTensor)> {
    let (rows, order, size) = (a.usize("rows"), a.usize("order"), a.f64("size") as f32);
    let values: Vec<f32> = s.values(rows * RUN * order, Fill::Outliers).iter().map(|v| v * size).collect();
    Ok((s.device().upload_f32([rows, RUN * order], &values)?, hadamard_signs(s.device(), order)?))
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (x, signs) = operands(s, a)?;
    let out = s.output("out", DType::F32, x.shape)?;
    hadamard_whole(s.plan(), &x, &signs, &out, 1.0 / (x.shape.cols() as f32).sqrt())
}

fn work(a: &Args) -> Work {
    let (rows, order) = (a.usize("rows"), a.usize("order"));
    let n = RUN * order * rows;
    Work { bytes: 8 * n + order * order / 8, ops: n * (order + 9) }
}
