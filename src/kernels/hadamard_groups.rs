//! The Hadamard transform of short blocks of columns, and codes of groups of 32, in one dispatch.

use super::bindings::hadamard_groups::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::grouped_rows::{TOKEN_GROUP, turn, turns_in_groups};
use super::matmul::Epilogue;
use super::scaled::{Scaled, group_of};
use super::split_k_reduce::{split_k_reduce, sums_for};
use super::{Columns, expect, expect_dtype, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::hadamard_groups::Params;
use crate::tensor::DType;

const NAME: &str = "hadamard_groups";
/// Groups of a workgroup.
const GROUPS: usize = 128;

/// Does [`hadamard_groups`] take blocks of `block` columns and scales for each `group` of `cols`?
#[must_use]
pub fn hadamard_groups_fits(block: usize, cols: usize, group: usize) -> bool {
    let whole = group == TOKEN_GROUP && cols > group && cols.is_multiple_of(group);
    whole && turns_in_groups(block)
}

/// [`super::hadamard`] of `x` in blocks of `block` columns (1: none), then [`super::quantize_tokens`] of that into `out`. QuaRot,
/// arXiv:2404.00456. Where the plan's last launch is to make `x` the squared ReLU of sums of slices ([`super::split_k_reduce`]), this one takes the sums, and
/// `x` is not written: nobody may need it but for its codes.
///
/// `x`: `[rows, cols]` f32; `out`: codes `[rows, cols]` int8 with scales `[rows, cols / 32]`, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] where [`hadamard_groups_fits`] says no.
pub fn hadamard_groups(plan: &mut Plan, x: &DeviceTensor, out: Scaled<'_>, block: usize) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    let (rows, cols) = (x.shape.rows(), x.shape.cols());
    expect_dtype(NAME, "codes", out.codes, DType::I8, "i8")?;
    expect(NAME, "codes", out.codes, [rows, cols])?;
    let group = group_of(NAME, ["group", "scales"], out.scales, [rows, cols], out.group, 4)?;
    if !hadamard_groups_fits(block, cols, group) {
        let reason = format!("blocks of {block} of {cols} columns in groups of {group}");
        return Err(Error::argument(format!("{NAME}: `block`"), reason));
    }
    let (groups, (log_run, unit)) = (rows * cols / group, turn(NAME, block)?);
    let (sums, slices) = sums_for(plan, x, Epilogue::ReluSquared, usize::MAX);
    let params = Params { groups: groups as u32, log_run, unit, slices: slices as u32 };
    let bindings = Bindings { x: sums.as_ref().unwrap_or(x), codes: out.codes, scales: out.scales };
    launch(plan, params, bindings, Grid::linear(groups.div_ceil(GROUPS)))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $rows:expr, $cols:expr, $block:expr) => {
        Case { name: $name, args: &[("rows", $rows), ("cols", $cols), ("block", $block)] }
    };
}

const CASES: &[Case] = &[
    case!("no_transform", 3.0, 96.0, 1.0),
    case!("pairs", 1.0, 64.0, 2.0),
    case!("quads", 5.0, 160.0, 4.0),
    case!("two_threads", 2.0, 4128.0, 8.0),
    case!("four_threads", 33.0, 128.0, 16.0),
    case!("whole_groups", 7.0, 672.0, 32.0),
    case!("nemotron_8b_token", 1.0, 21504.0, 32.0),
    Case { name: "after_one_slice", args: &[("rows", 2.0), ("cols", 96.0), ("block", 1.0), ("slices", 1.0)] },
    Case { name: "after_three_slices", args: &[("rows", 9.0), ("cols", 1056.0), ("block", 32.0), ("slices", 3.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let slices = a.get("slices").map_or(0, |s| s as usize);
    let mut x = s.input([slices.max(1) * rows, cols], Fill::Outliers)?;
    if slices > 0 {
        let sums = x;
        x = s.device().alloc(DType::F32, [rows, cols])?;
        split_k_reduce(s.plan(), &sums, &Columns::from(&x), Epilogue::ReluSquared)?;
    }
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows, cols / TOKEN_GROUP])?;
    let out = Scaled { codes: &codes, scales: &scales, group: TOKEN_GROUP };
    hadamard_groups(s.plan(), &x, out, a.usize("block"))
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    let slices = a.get("slices").map_or(1, |s| s as usize);
    Work { bytes: (4 * slices + 1) * n + n / 8, ops: n * (4 + slices + a.usize("block").ilog2() as usize) }
}
