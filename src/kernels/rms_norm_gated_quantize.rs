//! The Mamba-2 mixer's gated norm, the transform behind it and int8 codes, in one dispatch.

use super::bindings::rms_norm_gated_quantize::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::quantize_tokens::{SPAN, held};
use super::rms_norm_quantize::quantized;
use super::scaled::Scaled;
use super::ssd::{dtype, expect_floats};
use super::{Columns, expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::rms_norm_gated_quantize::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "rms_norm_gated_quantize";

/// A gated norm over `groups` runs of columns, then a Hadamard transform of blocks of `block` columns (1: none).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GatedNorm {
    /// Groups of columns, each with a norm of its own.
    pub groups: usize,
    /// Columns of a block of the transform.
    pub block: usize,
    /// Added to the mean square.
    pub eps: f32,
}

impl GatedNorm {
    /// Does [`rms_norm_gated_quantize`] take rows of this gate's width with a scale for each `group` columns? Rows are held
    /// in registers: at most 12288 columns, 256 norms and 1024 groups, all in whole quads; blocks are powers of two up to 4096.
    #[must_use]
    pub fn fits(self, gate: &Columns<'_>, group: usize) -> bool {
        self.refusal(gate, group).is_none()
    }

    /// Has a row of `cols` columns few norms of whole 128 of them, runs and groups of scales within (formats `.._norms`)?
    pub(super) fn few(self, cols: usize, group: usize) -> bool {
        let norm = cols / self.groups;
        let groups = group >= cols || (group.is_power_of_two() && (4..=128).contains(&group));
        self.groups <= 8 && norm.is_multiple_of(self.block.max(128)) && norm <= 1536 && self.block <= 1024 && groups
    }

    /// What keeps it from fitting.
    fn refusal(self, gate: &Columns<'_>, group: usize) -> Option<String> {
        let (cols, Self { groups, block, .. }) = (gate.width, self);
        let norms = (1..=256).contains(&groups) && cols.is_multiple_of(4 * groups);
        let runs = block.is_power_of_two() && block <= SPAN && cols.is_multiple_of(block);
        if !held([cols, group], 3) {
            Some(format!("a workgroup cannot hold {cols} columns in groups of {group}"))
        } else if !norms {
            Some(format!("norms over {groups} groups of {cols} columns"))
        } else if !runs {
            Some(format!("a transform of {block} columns of {cols}"))
        } else if !gate.offset.is_multiple_of(4) || !gate.stride().is_multiple_of(4) {
            Some(format!("a gate from column {} of {} is not in whole quads", gate.offset, gate.stride()))
        } else {
            None
        }
    }
}

/// [`super::rms_norm_gated`] of `y`, [`super::hadamard`] of that, and [`super::quantize_tokens`] of that into `out`, of
/// which only the last is kept. Dao & Gu 2024, arXiv:2405.21060; QuaRot, arXiv:2404.00456.
///
/// `y`: `[rows, d]` f32 or f16; `gate`: `d` columns z of a tensor of `rows` rows; `weight`: `[d]` f32; `out`: codes `[rows, d]`
/// int8 with scales `[rows, ceil(d / group)]`, written.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] where [`GatedNorm::fits`] says no.
pub fn rms_norm_gated_quantize(
    plan: &mut Plan,
    y: &DeviceTensor,
    gate: &Columns<'_>,
    weight: &DeviceTensor,
    out: Scaled<'_>,
    norm: GatedNorm,
) -> Result<()> {
    let (rows, d) = (y.shape.rows(), y.shape.cols());
    let dtype = expect_floats(NAME, &[("y", y, [rows, d])])?;
    f32_tensor(NAME, "gate", gate.tensor)?;
    f32_tensor(NAME, "weight", weight)?;
    expect(NAME, "gate", gate.tensor, [rows, gate.stride()])?;
    expect(NAME, "weight", weight, [d])?;
    if gate.width != d {
        return Err(Error::argument(format!("{NAME}: `gate`"), format!("{} columns for {d} of `y`", gate.width)));
    }
    let group = quantized(NAME, out, [rows, d], 3)?;
    if let Some(reason) = norm.refusal(gate, group) {
        return Err(Error::argument(format!("{NAME}: `norm`"), reason));
    }
    let params = Params {
        rows: rows as u32,
        cols: d as u32,
        norm_group: (d / norm.groups) as u32,
        group: group as u32,
        gate_stride: gate.stride() as u32,
        gate_offset: gate.offset as u32,
        eps: norm.eps,
        log_run: norm.block.ilog2(),
        unit: 1.0 / (norm.block as f32).sqrt(),
    };
    let bindings = Bindings { y, gate: gate.tensor, weight, codes: out.codes, scales: out.scales };
    let format = match (dtype, d <= 2 * SPAN, norm.few(d, group)) {
        (DType::F16, true, true) => Format::HalfShortNorms,
        (DType::F16, false, true) => Format::HalfLongNorms,
        (DType::F16, true, false) => Format::HalfShort,
        (DType::F16, false, false) => Format::HalfLong,
        (_, true, true) => Format::ShortNorms,
        (_, false, true) => Format::LongNorms,
        (_, true, false) => Format::Short,
        (_, false, false) => Format::Long,
    };
    launch(plan, format, params, bindings, Grid::linear(rows))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $rows:expr, $d:expr, $groups:expr, [$offset:expr, $stride:expr], $block:expr, $x_group:expr $(, $bits:expr)? $(; $gate:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("rows", $rows),
                ("d", $d),
                ("groups", $groups),
                ("offset", $offset),
                ("stride", $stride),
                ("block", $block),
                ("group", $x_group),
                $(("bits", $bits),)?
                $(("gate", $gate),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("nano", 5.0, 256.0, 2.0, [0.0, 584.0], 128.0, 256.0),
    case!("small_numbers_need_epsilon", 3.0, 96.0, 4.0, [20.0, 132.0], 1.0, 96.0; 2e-3),
    case!("norms_of_128_of_small_numbers", 3.0, 384.0, 3.0, [4.0, 400.0], 32.0, 32.0; 2e-3),
    case!("norms_of_1536_of_small_numbers", 1.0, 9216.0, 6.0, [0.0, 9216.0], 1.0, 9216.0; 2e-3),
    case!("no_transform", 3.0, 96.0, 4.0, [20.0, 132.0], 1.0, 96.0),
    case!("pairs", 3.0, 12.0, 1.0, [4.0, 20.0], 2.0, 12.0),
    case!("quads", 3.0, 100.0, 5.0, [0.0, 100.0], 4.0, 100.0),
    case!("heads_of_64", 3.0, 768.0, 3.0, [0.0, 768.0], 64.0, 768.0),
    case!("nemotron_8b_token", 1.0, 8192.0, 8.0, [0.0, 18560.0], 1024.0, 8192.0),
    case!("nemotron_8b_groups_of_128", 2.0, 8192.0, 8.0, [0.0, 18560.0], 1024.0, 128.0),
    case!("nemotron_9b_token", 1.0, 10240.0, 8.0, [0.0, 22656.0], 256.0, 10240.0),
    case!("nemotron_9b_groups_of_32", 2.0, 10240.0, 8.0, [0.0, 22656.0], 32.0, 32.0),
    case!("more_groups_than_threads", 2.0, 10240.0, 16.0, [0.0, 10240.0], 32.0, 32.0),
    case!("mamba2_2_7b_tokens", 2.0, 5120.0, 1.0, [0.0, 10576.0], 1024.0, 5120.0),
    case!("norms_of_128_no_transform", 3.0, 384.0, 3.0, [4.0, 400.0], 1.0, 384.0),
    case!("norms_of_640_groups_of_8", 2.0, 1280.0, 2.0, [0.0, 1280.0], 128.0, 8.0),
    case!("norms_of_896_groups_of_32", 2.0, 7168.0, 8.0, [0.0, 7168.0], 128.0, 32.0),
    case!("norms_of_1536_runs_of_512", 2.0, 12288.0, 8.0, [0.0, 12288.0], 512.0, 12288.0),
    case!("norms_of_256_runs_of_32", 2.0, 1024.0, 4.0, [0.0, 1024.0], 32.0, 1024.0),
    case!("widest_row_longest_run", 2.0, 12288.0, 3.0, [8.0, 12296.0], 4096.0, 64.0),
    case!("nano_of_halves", 5.0, 256.0, 2.0, [0.0, 584.0], 128.0, 256.0, 16.0),
    case!("heads_of_64_of_halves", 3.0, 768.0, 3.0, [4.0, 776.0], 64.0, 768.0, 16.0),
    case!("nemotron_8b_tokens_of_halves", 2.0, 8192.0, 8.0, [0.0, 18560.0], 1024.0, 8192.0, 16.0),
    case!("norms_of_640_groups_of_8_of_halves", 2.0, 1280.0, 2.0, [0.0, 1280.0], 128.0, 8.0, 16.0),
    case!("norms_of_896_groups_of_32_of_halves", 2.0, 7168.0, 8.0, [0.0, 7168.0], 128.0, 32.0, 16.0),
    case!("norms_of_256_runs_of_32_of_halves", 2.0, 1024.0, 4.0, [0.0, 1024.0], 32.0, 1024.0, 16.0),
    case!("more_groups_than_threads_of_halves", 2.0, 10240.0, 16.0, [0.0, 10240.0], 32.0, 32.0, 16.0),
    case!("norms_of_100_of_halves", 3.0, 100.0, 5.0, [0.0, 100.0], 4.0, 100.0, 16.0),
    case!("norms_of_1536_runs_of_512_of_halves", 2.0, 12288.0, 8.0, [0.0, 12288.0], 512.0, 12288.0, 16.0),
    case!("norms_of_1280_of_halves", 3.0, 10240.0, 8.0, [0.0, 22656.0], 256.0, 10240.0, 16.0),
    case!("norms_of_1408_groups_of_128_of_halves", 1.0, 11264.0, 8.0, [4.0, 11268.0], 128.0, 128.0, 16.0),
    case!("norms_of_1152_groups_of_64_of_halves", 2.0, 9216.0, 8.0, [0.0, 9216.0], 1.0, 64.0, 16.0),
    case!("norms_of_1280_groups_of_64_of_halves", 2.0, 8960.0, 7.0, [0.0, 8960.0], 128.0, 64.0, 16.0),
    case!("norms_of_1536_no_transform_of_halves", 1.0, 9216.0, 6.0, [0.0, 9216.0], 1.0, 9216.0, 16.0),
    case!("widest_row_longest_run_of_halves", 2.0, 12288.0, 3.0, [8.0, 12296.0], 4096.0, 64.0, 16.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (rows, d, group) = (a.usize("rows"), a.usize("d"), a.usize("group"));
    let y = s.input_as(dtype(a), [rows, d], Fill::Outliers)?;
    let projected = s.input([rows, a.usize("stride")], Fill::Normal(a.get("gate").unwrap_or(2.0) as f32))?;
    let weight = s.input([d], Fill::Normal(1.0))?;
    let codes = s.rounded_output("codes", DType::I8, [rows, d])?;
    let scales = s.output("scales", DType::F32, [rows, d.div_ceil(group)])?;
    let gate = Columns::new(NAME, &projected, a.usize("offset"), d)?;
    let norm = GatedNorm { groups: a.usize("groups"), block: a.usize("block"), eps: 1e-5 };
    rms_norm_gated_quantize(s.plan(), &y, &gate, &weight, Scaled { codes: &codes, scales: &scales, group }, norm)
}

fn work(a: &Args) -> Work {
    let n = a.usize("rows") * a.usize("d");
    Work { bytes: (5 + dtype(a).bits() / 8) * n + 4 * a.usize("d"), ops: n * (15 + a.usize("block").ilog2() as usize) }
}
