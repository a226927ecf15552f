//! A scale for each column: what is left at run time of smoothing that no earlier weight can take.

use super::bindings::scale_channels::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::scale_channels::Params;
use crate::tensor::DType;

/// `out[r, c] = x[r, c] * scale[c]`. Xiao et al. 2022, arXiv:2211.10438.
///
/// `x`, `out`: `[rows, cols]` f32; `scale`: `[cols]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault.
pub fn scale_channels(plan: &mut Plan, x: &DeviceTensor, scale: &DeviceTensor, out: &DeviceTensor) -> Result<()> {
    f32_tensor("scale_channels", "x", x)?;
    f32_tensor("scale_channels", "scale", scale)?;
    f32_tensor("scale_channels", "out", out)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    expect("scale_channels", "scale", scale, [cols])?;
    expect("scale_channels", "out", out, [rows, cols])?;
    let params = Params { rows: rows as u32, cols: cols as u32 };
    launch(plan, params, Bindings { x, scale, out }, Grid::cover(rows * cols, 256))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "scale_channels", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_tokens", args: &[("rows", 5.0), ("cols", 128.0)] },
    Case { name: "odd_cols", args: &[("rows", 7.0), ("cols", 333.0)] },
    Case { name: "one_column", args: &[("rows", 300.0), ("cols", 1.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("cols", 4096.0)] },
    Case { name: "beyond_one_grid_axis", args: &[("rows", 8.0), ("cols", 2_097_157.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let x = s.input([rows, cols], Fill::Outliers)?;
    let scale = s.input([cols], Fill::Uniform(0.05, 4.0))?;
    let out = s.output("out", DType::F32, [rows, cols])?;
    scale_channels(s.plan(), &x, &scale, &out)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 8 * n + 4 * a.usize("cols"), ops: n }
}
