//! Means of second moments, from sums on the device.

use super::bindings::gather_moments::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{GramSums, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::gather_moments::Params;
use crate::tensor::DType;

const NAME: &str = "gather_moments";
/// Elements of a workgroup.
const WG: usize = 256;

/// `out[i, j] = scale · sums[order[i], order[j]]`, and `added` on the diagonal, of the totals of one matrix: what
/// they lost is far below any damping. An `out` of one row is the diagonal.
///
/// `order`: `[1, n]` u32, each below n; `out`: `[n, n]` or `[1, n]` f32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for sums that are not of one matrix.
pub fn gather_moments(
    plan: &mut Plan,
    sums: &GramSums,
    order: &DeviceTensor,
    [scale, added]: [f32; 2],
    out: &DeviceTensor,
) -> Result<()> {
    if !sums.symmetric {
        return Err(Error::argument(format!("{NAME}: sums"), "of two matrices"));
    }
    into(plan, &sums.totals, order, [scale, added], out)
}

fn into(
    plan: &mut Plan,
    totals: &DeviceTensor,
    order: &DeviceTensor,
    [scale, added]: [f32; 2],
    out: &DeviceTensor,
) -> Result<()> {
    let n = totals.shape.rows();
    f32_tensor(NAME, "totals", totals)?;
    expect(NAME, "totals", totals, [n, n])?;
    expect_dtype(NAME, "order", order, DType::U32, "u32")?;
    expect(NAME, "order", order, [1, n])?;
    f32_tensor(NAME, "out", out)?;
    let diagonal = out.shape.rows() == 1;
    let lines = if diagonal { 1 } else { n };
    expect(NAME, "out", out, [lines, n])?;
    let params = Params { n: n as u32, diagonal: diagonal.into(), scale, added };
    launch(plan, params, Bindings { totals, order, out }, Grid::linear(lines * n.div_ceil(WG)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("n", 1.0)] },
    Case { name: "past_a_workgroup", args: &[("n", 259.0)] },
    Case { name: "diagonal", args: &[("n", 300.0), ("diagonal", 1.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let n = a.usize("n");
    let totals = s.input([n, n], Fill::Outliers)?;
    // Each column once: 121 has no factor with these sizes in common.
    let order: Vec<u32> = (0..n).map(|i| ((i * 121 + 5) % n) as u32).collect();
    let order = s.device().upload_words(DType::U32, [1, n], &order)?;
    let lines = if a.get("diagonal") == Some(1.0) { 1 } else { n };
    let out = s.output("out", DType::F32, [lines, n])?;
    into(s.plan(), &totals, &order, [0.37, 0.5], &out)
}

fn work(a: &Args) -> Work {
    let n = if a.get("diagonal") == Some(1.0) { a.usize("n") } else { a.usize("n").pow(2) };
    Work { bytes: 8 * n, ops: 2 * n }
}
