//! Root-mean-square norm and int8 codes of what it gives, in one dispatch.

use super::bindings::rms_norm_quantize::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::Epilogue;
use super::quantize_tokens::held;
use super::scaled::{Scaled, group_of};
use super::split_k_reduce::{split_k_reduce, sums_for};
use super::{Columns, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::rms_norm_quantize::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "rms_norm_quantize";

/// Slices up to which a row's workgroup adds them up. On an H200 6 or 8 of 16 or 48 tokens of 4096 columns made a whole step 1 and 2 % faster than a launch that does it, 12 of 32 tokens 2 %
/// slower.
pub(super) const SLICES: usize = 8;

/// Does [`rms_norm_quantize`] take rows of `cols` columns with a scale for each `group` of them? Rows are held in
/// registers: whole quads, at most 8192 columns and 1024 groups.
#[must_use]
pub fn rms_norm_quantize_fits(cols: usize, group: usize) -> bool {
    held([cols, group], 2)
}

/// [`super::rms_norm`] of `x`, then [`super::quantize_tokens`] of that into `out`. The norm itself is not kept. Where the plan's last launch is to add sums of slices to `x`
/// ([`super::split_k_reduce`]), this one does it instead.
/// Zhang & Sennrich 2019, arXiv:1910.07467; Yao et al. 2022, arXiv:2206.01861.
///
/// `x`: `[rows, cols]` f32, written where sums are added; `weight`: `[cols]` f32; `out`: codes `[rows, cols]` int8 with scales
/// `[rows, ceil(cols / group)]`, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for rows or groups that do not
/// fit ([`rms_norm_quantize_fits`]).
pub fn rms_norm_quantize(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: &DeviceTensor,
    out: Scaled<'_>,
    eps: f32,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    f32_tensor(NAME, "weight", weight)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    expect(NAME, "weight", weight, [cols])?;
    let group = quantized(NAME, out, [rows, cols], 2)?;
    let (sums, slices) = sums_for(plan, x, Epilogue::Add, SLICES);
    let params = Params { rows: rows as u32, cols: cols as u32, group: group as u32, eps, slices: slices as u32 };
    let bindings = Bindings { sums: sums.as_ref().unwrap_or(weight), weight, x, codes: out.codes, scales: out.scales };
    let format = if group < cols { Format::Groups } else { Format::Whole };
    launch(plan, format, params, bindings, Grid::linear(rows))
}

/// Checks what a kernel that holds a row in registers, up to `spans` spans of it, writes; gives the columns a scale.
pub(super) fn quantized(
    kernel: &'static str,
    out: Scaled<'_>,
    [rows, cols]: [usize; 2],
    spans: usize,
) -> Result<usize> {
    expect_dtype(kernel, "codes", out.codes, DType::I8, "i8")?;
    expect(kernel, "codes", out.codes, [rows, cols])?;
    let group = group_of(kernel, ["group", "scales"], out.scales, [rows, cols], out.group, 4)?;
    if !held([cols, group], spans) {
        let reason = format!("a workgroup cannot hold {cols} columns in groups of {group}");
        return Err(Error::argument(format!("{kernel}: `x`"), reason));
    }
    Ok(group)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "nano_hidden", args: &[("rows", 5.0), ("cols", 128.0)] },
    Case { name: "one_quad", args: &[("rows", 3.0), ("cols", 4.0)] },
    Case { name: "nemotron_8b_token", args: &[("rows", 1.0), ("cols", 4096.0)] },
    Case { name: "nemotron_9b_tokens", args: &[("rows", 3.0), ("cols", 4480.0)] },
    Case { name: "widest_row", args: &[("rows", 2.0), ("cols", 8192.0)] },
    Case { name: "small_rows_need_epsilon", args: &[("rows", 3.0), ("cols", 96.0), ("size", 1e-3)] },
    Case { name: "groups_of_32", args: &[("rows", 3.0), ("cols", 4096.0), ("group", 32.0)] },
    Case { name: "groups_of_128_of_two_spans", args: &[("rows", 3.0), ("cols", 4480.0), ("group", 128.0)] },
    Case { name: "groups_of_64_ragged", args: &[("rows", 3.0), ("cols", 204.0), ("group", 64.0)] },
    Case { name: "groups_of_8_of_two_spans", args: &[("rows", 2.0), ("cols", 8192.0), ("group", 8.0)] },
    Case { name: "after_three_slices", args: &[("rows", 3.0), ("cols", 4096.0), ("slices", 3.0)] },
    Case { name: "after_two_slices_ragged", args: &[("rows", 3.0), ("cols", 204.0), ("slices", 2.0)] },
    Case {
        name: "groups_of_32_after_one_slice_of_two_spans",
        args: &[("rows", 2.0), ("cols", 4480.0), ("group", 32.0), ("slices", 1.0)],
    },
    Case {
        name: "groups_of_32_after_six_slices",
        args: &[("rows", 5.0), ("cols", 260.0), ("group", 32.0), ("slices", 6.0)],
    },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 3.0), ("cols", 260.0), ("size", 1e5)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let group = a.get("group").map_or(cols, |g| g as usize);
    let size = a.get("size").unwrap_or(1.0) as f32;
    let values: Vec<f32> = s.values(rows * cols, Fill::Outliers).iter().map(|v| v * size).collect();
    let x = s.state_of("x", [rows, cols], &values)?;
    if let Some(slices) = a.get("slices") {
        let sums = s.input([slices as usize * rows, cols], Fill::Normal(1.0))?;
        split_k_reduce(s.plan(), &sums, &Columns::from(&x), Epilogue::Add)?;
    }
    let weight = s.input([cols], Fill::Normal(1.0))?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows, cols.div_ceil(group)])?;
    rms_norm_quantize(s.plan(), &x, &weight, Scaled { codes: &codes, scales: &scales, group }, 1e-5)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    let slices = a.get("slices").map_or(0, |s| s as usize);
    let adding_up = if slices > 0 { 4 * (slices + 1) * n } else { 0 };
    Work { bytes: 5 * n + adding_up + 4 * a.usize("cols"), ops: (9 + slices) * n }
}
