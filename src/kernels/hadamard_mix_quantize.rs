//! A whole Hadamard transform of rows and int8 codes of what it gives, in one dispatch.

use super::bindings::hadamard_mix_quantize::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::hadamard_whole::{RUN, operands, order};
use super::scaled::{Scaled, group_of};
use super::{expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::hadamard_mix_quantize::Params;
use crate::tensor::DType;

pub(super) const NAME: &str = "hadamard_mix_quantize";

/// Does it take scales of so many of `cols` columns?
pub(super) fn groups(cols: usize, group: usize) -> bool {
    group >= cols || (group.is_power_of_two() && (16..=RUN).contains(&group))
}

/// `v = scale * (H_order ⊗ H_256) x` for each row, `H_256` Sylvester's matrix; then [`super::quantize_tokens`] of `v` into
/// `out`, with one scale a row, or one for each 16, 32, 64, 128 or 256 columns. QuaRot, arXiv:2404.00456.
///
/// `x`: `[rows, 256 * order]` f32; `signs`: of [`super::hadamard_signs`], `[order, order / 32]`, `order` up to 84; `out`: codes
/// `[rows, 256 * order]` int8 with their scales, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for rows or groups that do not fit.
pub fn hadamard_mix_quantize(
    plan: &mut Plan,
    x: &DeviceTensor,
    signs: &DeviceTensor,
    out: Scaled<'_>,
    scale: f32,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    expect_dtype(NAME, "signs", signs, DType::U32, "u32")?;
    let (rows, cols, runs) = (x.shape.rows(), x.shape.cols(), signs.shape.rows());
    expect(NAME, "signs", signs, [runs, runs.div_ceil(32)])?;
    expect_dtype(NAME, "codes", out.codes, DType::I8, "i8")?;
    expect(NAME, "codes", out.codes, [rows, cols])?;
    let group = group_of(NAME, ["group", "scales"], out.scales, [rows, cols], out.group, 4)?;
    if order(cols, cols) != Some(runs) || !groups(cols, group) {
        let reason = format!("{runs} runs of {RUN} columns, of {cols}, in groups of {group}");
        return Err(Error::argument(format!("{NAME}: `x`"), reason));
    }
    let params = Params { rows: rows as u32, order: runs as u32, unit: scale, group: group as u32 };
    launch(plan, params, Bindings { x, signs, codes: out.codes, scales: out.scales }, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_run", args: &[("rows", 3.0), ("order", 1.0), ("size", 1.0)] },
    Case { name: "order_12", args: &[("rows", 5.0), ("order", 12.0), ("size", 1.0)] },
    Case { name: "nemotron_8b_mlp_token", args: &[("rows", 1.0), ("order", 84.0), ("size", 1.0)] },
    Case { name: "nemotron_8b_mlp_tokens", args: &[("rows", 3.0), ("order", 84.0), ("size", 1.0)] },
    Case { name: "nemotron_4b_mlp_12_by_4", args: &[("rows", 2.0), ("order", 48.0), ("size", 1.0)] },
    Case { name: "order_36", args: &[("rows", 2.0), ("order", 36.0), ("size", 1.0)] },
    Case { name: "groups_of_32", args: &[("rows", 3.0), ("order", 12.0), ("size", 1.0), ("group", 32.0)] },
    Case { name: "groups_of_16", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e-3), ("group", 16.0)] },
    Case { name: "groups_of_64", args: &[("rows", 2.0), ("order", 1.0), ("size", 1.0), ("group", 64.0)] },
    Case { name: "groups_of_128", args: &[("rows", 2.0), ("order", 28.0), ("size", 1.0), ("group", 128.0)] },
    Case { name: "groups_of_256", args: &[("rows", 2.0), ("order", 84.0), ("size", 10.0), ("group", 256.0)] },
    Case { name: "f16_overflow_activations_1e5", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e5)] },
    Case { name: "near_the_largest_f32", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e33)] },
    Case { name: "tiny_values", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e-33)] },
    Case { name: "below_the_smallest_scale", args: &[("rows", 2.0), ("order", 20.0), ("size", 1e-37)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (x, signs) = operands(s, a)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let group = a.get("group").map_or(cols, |g| g as usize);
    let scales = s.output("scales", DType::F32, [rows, cols / group])?;
    let out = Scaled { codes: &codes, scales: &scales, group };
    hadamard_mix_quantize(s.plan(), &x, &signs, out, 1.0 / (cols as f32).sqrt())
}

fn work(a: &Args) -> Work {
    let (rows, order) = (a.usize("rows"), a.usize("order"));
    let n = RUN * order * rows;
    Work { bytes: 5 * n + 4 * rows + order * order / 8, ops: n * (order + 14) }
}
