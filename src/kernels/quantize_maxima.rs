//! int8 codes of rows whose largest magnitudes are known.

use super::bindings::quantize_maxima::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::scaled::{Scaled, group_of};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::quantize_maxima::Params;
use crate::tensor::DType;

const NAME: &str = "quantize_maxima";
/// Columns of a workgroup (`shaders/quantize_maxima.wgsl`).
const PART: usize = 1024;

/// [`super::quantize_tokens`] of `x` into `out`, one scale a row, where the largest magnitudes of runs of its columns are
/// known already. Yao et al. 2022, arXiv:2206.01861.
///
/// `x`: `[rows, cols]` f32, `cols` a multiple of 4; `maxima`: `[rows, runs]` f32, not negative; `out`: codes `[rows, cols]`
/// int8 with scales `[rows]` or `[rows, 1]`, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for columns or groups that do not
/// fit.
pub fn quantize_maxima(plan: &mut Plan, x: &DeviceTensor, maxima: &DeviceTensor, out: Scaled<'_>) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    f32_tensor(NAME, "maxima", maxima)?;
    expect_dtype(NAME, "codes", out.codes, DType::I8, "i8")?;
    let (rows, cols, runs) = (x.shape.rows(), x.shape.cols(), maxima.shape.cols());
    expect(NAME, "codes", out.codes, [rows, cols])?;
    expect(NAME, "maxima", maxima, [rows, runs])?;
    let group = group_of(NAME, ["group", "scales"], out.scales, [rows, cols], out.group, 4)?;
    if !cols.is_multiple_of(4) || cols == 0 || runs == 0 || group < cols {
        let reason = format!("{cols} columns with {runs} maxima in groups of {group}");
        return Err(Error::argument(format!("{NAME}: `x`"), reason));
    }
    let params = Params { rows: rows as u32, cols: cols as u32, runs: runs as u32 };
    let bindings = Bindings { x, maxima, codes: out.codes, scales: out.scales };
    launch(plan, params, bindings, Grid::linear(rows * cols.div_ceil(PART)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_quad", args: &[("rows", 3.0), ("cols", 4.0), ("runs", 1.0), ("size", 1.0)] },
    Case { name: "ragged_last_workgroup", args: &[("rows", 3.0), ("cols", 1344.0), ("runs", 84.0), ("size", 1.0)] },
    Case { name: "more_maxima_than_threads", args: &[("rows", 2.0), ("cols", 2400.0), ("runs", 600.0), ("size", 1.0)] },
    Case { name: "nemotron_8b_mlp_token", args: &[("rows", 1.0), ("cols", 21504.0), ("runs", 84.0), ("size", 1.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 2.0), ("cols", 64.0), ("runs", 4.0), ("size", 1e5)] },
    Case { name: "below_the_smallest_scale", args: &[("rows", 2.0), ("cols", 64.0), ("runs", 4.0), ("size", 1e-37)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols, runs) = (a.usize("rows"), a.usize("cols"), a.usize("runs"));
    let size = a.f64("size") as f32;
    let values: Vec<f32> = s.values(rows * cols, Fill::Outliers).iter().map(|v| v * size).collect();
    let largest = |run: &[f32]| run.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let maxima: Vec<f32> = values.chunks(cols / runs).map(largest).collect();
    let x = s.device().upload_f32([rows, cols], &values)?;
    let maxima = s.device().upload_f32([rows, runs], &maxima)?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows])?;
    quantize_maxima(s.plan(), &x, &maxima, Scaled { codes: &codes, scales: &scales, group: cols })
}

fn work(a: &Args) -> Work {
    let (rows, n) = (a.usize("rows"), a.usize("rows") * a.usize("cols"));
    Work { bytes: 5 * n + 4 * rows * (1 + a.usize("runs")), ops: 3 * n }
}
