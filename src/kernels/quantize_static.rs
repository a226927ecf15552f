//! int8 quantization of activations under scales that calibration fixed.

use super::bindings::quantize_static::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::scaled::group_of;
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::quantize_static::Params;
use crate::tensor::DType;

/// Threads of a workgroup (`shaders/quantize_static.wgsl`).
const WG: usize = 64;

/// `codes[r, c] = round(x[r, c] / given[c / group])`, ties to even, within ±127: larger values saturate, and NaN becomes any code. Jacob et al.
/// 2017, arXiv:1712.05877. Unlike [`super::quantize_tokens`] it looks for no largest value; `scales` are `given` again
/// for each row, as the products want them.
///
/// `x`: `[rows, cols]` f32; `given`: `[ceil(cols / group)]` f32, positive; `codes`: `[rows, cols]` int8; `scales`:
/// `[rows, ceil(cols / group)]` f32 (or `[rows]` for one group). `group` is a multiple of 4, or `cols` or more for one
/// group a row.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for no columns or a group
/// that does not fit.
pub fn quantize_static(
    plan: &mut Plan,
    x: &DeviceTensor,
    given: &DeviceTensor,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    group: usize,
) -> Result<()> {
    f32_tensor("quantize_static", "x", x)?;
    f32_tensor("quantize_static", "given", given)?;
    expect_dtype("quantize_static", "codes", codes, DType::I8, "i8")?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    if cols == 0 {
        return Err(Error::argument("quantize_static: `x`", "it has no columns"));
    }
    expect("quantize_static", "codes", codes, [rows, cols])?;
    let group = group_of("quantize_static", ["group", "scales"], scales, [rows, cols], group, 4)?;
    expect("quantize_static", "given", given, [cols.div_ceil(group)])?;
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32 };
    launch(plan, params, Bindings { x, given, codes, scales }, Grid::cover(rows * cols.div_ceil(4), WG))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "quantize_static", cases: CASES, setup, work };

/// `size` multiplies values and scales; `beyond`, where it is given, multiplies the values instead.
const CASES: &[Case] = &[
    Case { name: "one_column", args: &[("rows", 3.0), ("cols", 1.0), ("size", 1.0)] },
    Case { name: "padded_last_word", args: &[("rows", 5.0), ("cols", 131.0), ("size", 1.0)] },
    Case { name: "nano_hidden", args: &[("rows", 9.0), ("cols", 128.0), ("size", 1.0)] },
    Case { name: "nemotron_8b_down_proj", args: &[("rows", 1.0), ("cols", 21504.0), ("size", 1.0)] },
    Case { name: "head_groups_of_64", args: &[("rows", 5.0), ("cols", 768.0), ("size", 1.0), ("group", 64.0)] },
    Case { name: "groups_of_64_ragged", args: &[("rows", 5.0), ("cols", 203.0), ("size", 1.0), ("group", 64.0)] },
    Case { name: "groups_of_one_word", args: &[("rows", 2.0), ("cols", 331.0), ("size", 1.0), ("group", 4.0)] },
    Case { name: "tiny_values", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e-30)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1e5)] },
    Case { name: "all_beyond_the_scale", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1.0), ("beyond", 1e4)] },
    Case { name: "far_below_the_scale", args: &[("rows", 4.0), ("cols", 66.0), ("size", 1.0), ("beyond", 1e-37)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, size) = (a.usize("rows"), a.usize("cols"), a.f64("size") as f32);
    let group = a.get("group").map_or(cols, |g| g as usize);
    let values = s.values(rows * cols, Fill::Outliers);
    let beyond = a.get("beyond").map_or(size, |b| b as f32);
    let values: Vec<f32> = values.iter().map(|v| v * beyond).collect();
    let x = s.device().upload_f32([rows, cols], &values)?;
    // Of a standard normal and outliers 20 times as large, some saturate and most do not.
    let given = s.input([cols.div_ceil(group)], Fill::Uniform(0.02 * size, 0.06 * size))?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows, cols.div_ceil(group)])?;
    quantize_static(s.plan(), &x, &given, &codes, &scales, group)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 5 * n + 4 * a.usize("rows"), ops: 3 * n }
}
