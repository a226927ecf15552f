//! The largest magnitude of each group of columns.

use super::bindings::absmax::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor, group_within};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::absmax::Params;
use crate::tensor::DType;

/// Outputs a workgroup makes (`WG / LANES` of the shader).
const OUTPUTS: usize = 8;

/// `out[r, g] = max |x[r, c]|` over group g: `group` consecutive columns, the last group maybe fewer.
///
/// `x`: `[rows, cols]` f32; `out`: `[rows, ceil(cols / group)]` f32. A group above `cols` is `cols`.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`]
/// for group 0.
pub fn absmax(plan: &mut Plan, x: &DeviceTensor, out: &DeviceTensor, group: usize) -> Result<()> {
    f32_tensor("absmax", "x", x)?;
    f32_tensor("absmax", "out", out)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    let group = group_within("absmax", cols, group)?;
    let outputs = rows * cols.div_ceil(group);
    expect("absmax", "out", out, [rows, cols.div_ceil(group)])?;
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32 };
    launch(plan, params, Bindings { x, out }, Grid::cover(outputs, OUTPUTS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "absmax", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("rows", 1.0), ("cols", 1.0), ("group", 1.0)] },
    Case { name: "groups_of_three", args: &[("rows", 5.0), ("cols", 31.0), ("group", 3.0)] },
    Case { name: "short_last_group", args: &[("rows", 9.0), ("cols", 1344.0), ("group", 128.0)] },
    Case { name: "whole_rows", args: &[("rows", 11.0), ("cols", 1757.0), ("group", 1757.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, group) = (a.usize("rows"), a.usize("cols"), a.usize("group"));
    let x = s.input([rows, cols], Fill::Outliers)?;
    let out = s.output("out", DType::F32, [rows, cols.div_ceil(group)])?;
    absmax(s.plan(), &x, &out, group)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 4 * n + 4 * n.div_ceil(a.usize("group")), ops: n }
}
