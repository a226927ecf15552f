//! Numbers of rows as two f16 each, or one, transposed.

use super::bindings::split_rows::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::weight_dtype;
use super::{Halves, expect};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::split_rows::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "split_rows";
/// Rows of a workgroup (`ROWS` of the shader).
const ROWS: usize = 16;

/// As [`super::split_columns`] of the transposed `x`: a column of `out` is a row of `x`. Where `out` has room for the first
/// bits alone they are all there is of bf16 and f16 numbers, but for what is below 2^-38 of their row's largest.
///
/// `x`: `[rows, k]` f32, f16 or bf16.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault.
pub fn split_rows(plan: &mut Plan, x: &DeviceTensor, out: &Halves) -> Result<()> {
    let (rows, k) = (x.shape.rows(), x.shape.cols());
    let format = match x.dtype {
        DType::F32 => Format::WF32,
        DType::F16 => Format::WF16,
        DType::BF16 => Format::WBf16,
        got => return Err(Error::DType { kernel: NAME, arg: "x", expected: "f32, f16 or bf16", got }),
    };
    let parts = if x.dtype == DType::F32 { 2 } else { out.parts };
    expect(NAME, "halves", &out.numbers, [parts * k, rows])?;
    let params = Params { rows: rows as u32, k: k as u32, parts: parts as u32 };
    let bindings = Bindings { x, halves: &out.numbers, scales: &out.scales };
    launch(plan, format, params, bindings, Grid::cover(rows, ROWS))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_k", args: &[("rows", 8.0), ("k", 1.0), ("parts", 2.0)] },
    Case { name: "past_a_workgroup", args: &[("rows", 40.0), ("k", 131.0), ("parts", 2.0)] },
    Case { name: "bf16_odd_k", args: &[("rows", 24.0), ("k", 67.0), ("parts", 1.0), ("dtype", 2.0)] },
    Case { name: "f16_in_two", args: &[("rows", 16.0), ("k", 70.0), ("parts", 2.0), ("dtype", 1.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, k, parts) = (a.usize("rows"), a.usize("k"), a.usize("parts"));
    let x = s.input_as(weight_dtype(a), [rows, k], Fill::Outliers)?;
    let numbers = s.output("halves", DType::F16, [parts * k, rows])?;
    let scales = s.output("scales", DType::F32, [1, rows])?;
    split_rows(s.plan(), &x, &Halves { numbers, parts, scales })
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("k");
    Work { bytes: n * (weight_dtype(a).bits() / 8 + 2 * a.usize("parts")), ops: 6 * n }
}
