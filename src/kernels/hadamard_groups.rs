//! The Hadamard transform of short blocks of columns, and codes of groups of 32, in one dispatch.

use super::bindings::hadamard_groups::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::grouped_rows::{TOKEN_GROUP, turn, turns_in_groups};
use super::scaled::{Scaled, group_of};
use super::{expect, expect_dtype, f32_tensor};
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
/// arXiv:2404.00456.
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
    let params = Params { groups: groups as u32, log_run, unit };
    let bindings = Bindings { x, codes: out.codes, scales: out.scales };
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
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, cols) = (a.usize("rows"), a.usize("cols"));
    let x = s.input([rows, cols], Fill::Outliers)?;
    let codes = s.rounded_output("codes", DType::I8, [rows, cols])?;
    let scales = s.output("scales", DType::F32, [rows, cols / TOKEN_GROUP])?;
    let out = Scaled { codes: &codes, scales: &scales, group: TOKEN_GROUP };
    hadamard_groups(s.plan(), &x, out, a.usize("block"))
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("cols");
    Work { bytes: 5 * n + n / 8, ops: n * (5 + a.usize("block").ilog2() as usize) }
}
