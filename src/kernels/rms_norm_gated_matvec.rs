//! The end of a Mamba-2 mixer for one token, from its gate to its last product, in one dispatch.

use super::bindings::rms_norm_gated_matvec::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::made_token::{Groups, Made, pays};
use super::matmul::{CaseOf, Epilogue};
use super::rms_norm_gated_quantize::GatedNorm;
use super::weight_scales::ScaledWeight;
use super::{Columns, expect, f32_tensor};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::shaders::rms_norm_gated_matvec::{Format, Params};

const NAME: &str = "rms_norm_gated_matvec";
/// Most columns, which workgroup memory holds.
const MOST: usize = 10240;

/// Does [`rms_norm_gated_matvec`] take this norm of a token gated by `gate` and such groups, and is it faster on `device` than
/// [`super::rms_norm_gated_quantize`] and a product?
#[must_use]
pub fn rms_norm_gated_matvec_pays(device: &Device, norm: GatedNorm, gate: &Columns<'_>, groups: Groups) -> bool {
    pays(device) && groups.fit(MOST, gate.width) && takes(norm, gate)
}

/// Few norms of whole 128 columns.
fn takes(norm: GatedNorm, gate: &Columns<'_>) -> bool {
    norm.fits(gate, gate.width) && norm.few(gate.width, gate.width)
}

/// [`super::rms_norm_gated_quantize`] of one token with a scale for each `x_group` columns, and [`super::matvec_w4a8`] or [`super::matvec_w8a8`] of its codes, which
/// are not kept. Dao & Gu 2024, arXiv:2405.21060; QuaRot, arXiv:2404.00456.
///
/// `y`: `[1, d]` f32; `gate`: `d` columns z of a tensor of one row; `norm_weight`: `[d]` f32; `weight`: `[n, d]` int4 or int8; `out`:
/// `[1, n]` f32.
///
/// # Errors
/// [`Error::Shape`] or [`Error::DType`] naming the argument at fault; [`Error::Argument`] for several rows, more than 10240 columns, rows or
/// groups of the weight that are not whole 16 bytes, other groups of the token than 32, 64, 128 and all of its columns, and norms that are not 8 or fewer of whole 128 columns up to 1536.
#[expect(clippy::too_many_arguments, reason = "the arguments of the two kernels that it is")]
pub fn rms_norm_gated_matvec(
    plan: &mut Plan,
    y: &DeviceTensor,
    gate: &Columns<'_>,
    norm_weight: &DeviceTensor,
    (norm, x_group): (GatedNorm, usize),
    weight: ScaledWeight<'_>,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    f32_tensor(NAME, "y", y)?;
    f32_tensor(NAME, "gate", gate.tensor)?;
    f32_tensor(NAME, "norm", norm_weight)?;
    let Made { n, cols, group, scale_bits, x_group, epilogue, bits, grid } =
        Made::of(NAME, ("y", y, x_group), MOST, weight, out, epilogue)?;
    let d = y.shape.cols();
    expect(NAME, "norm", norm_weight, [d])?;
    expect(NAME, "gate", gate.tensor, [1, gate.stride()])?;
    if gate.width != d {
        return Err(Error::argument(format!("{NAME}: `gate`"), format!("{} columns for {d} of `y`", gate.width)));
    }
    if !takes(norm, gate) {
        let GatedNorm { groups, block, .. } = norm;
        let reason =
            format!("norms over {groups} groups of {d} columns and runs of {block}, gate from column {}", gate.offset);
        return Err(Error::argument(format!("{NAME}: `norm`"), reason));
    }
    let params = Params {
        n,
        cols,
        group,
        scale_bits,
        x_group,
        epilogue,
        norm_group: (d / norm.groups) as u32,
        gate_offset: gate.offset as u32,
        eps: norm.eps,
        log_run: norm.block.ilog2(),
        unit: 1.0 / (norm.block as f32).sqrt(),
    };
    let format = if bits == 4 { Format::Int4 } else { Format::Int8 };
    let bindings =
        Bindings { y, gate: gate.tensor, norm: norm_weight, weight: weight.codes, weight_scales: weight.scales, out };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, [$n:expr, $k:expr, $group:expr], $groups:expr, $block:expr, $epilogue:expr, [$offset:expr, $stride:expr] $(, $x_group:expr)? $(; $short:expr)? $(=> $gate:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("n", $n),
                ("k", $k),
                ("group", $group),
                ("groups", $groups),
                ("block", $block),
                ("epilogue", $epilogue),
                ("gate_offset", $offset),
                ("gate_stride", $stride),
                $(("x_group", $x_group),)?
                $(("short_scales", $short),)?
                $(("gate", $gate),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("int4_nano", 4.0, [128.0, 256.0, 256.0], 2.0, 128.0, 2.0, [0.0, 584.0]),
    case!("int4_nemotron_8b_rows", 4.0, [40.0, 8192.0, 128.0], 8.0, 1024.0, 2.0, [0.0, 18560.0]; 1.0),
    case!("int4_nemotron_9b_rows", 4.0, [19.0, 10240.0, 128.0], 8.0, 256.0, 0.0, [8.0, 10248.0]),
    case!("int4_no_transform", 4.0, [33.0, 384.0, 96.0], 3.0, 1.0, 0.0, [4.0, 400.0]),
    case!("int4_norms_of_640", 4.0, [5.0, 1280.0, 64.0], 2.0, 128.0, 1.0, [0.0, 1280.0]),
    case!("int4_norms_of_1536", 4.0, [5.0, 9216.0, 9216.0], 6.0, 512.0, 0.0, [0.0, 9216.0]),
    case!("int4_token_in_groups_of_32", 4.0, [21.0, 3072.0, 96.0], 3.0, 1024.0, 0.0, [0.0, 3072.0], 32.0),
    case!("int4_small_numbers_need_epsilon", 4.0, [21.0, 768.0, 96.0], 3.0, 64.0, 0.0, [4.0, 776.0] => 2e-3),
    case!("int8_token_in_groups_of_64", 8.0, [21.0, 2560.0, 2560.0], 2.0, 256.0, 2.0, [4.0, 2568.0], 64.0),
    case!("int8_nano", 8.0, [128.0, 256.0, 256.0], 2.0, 128.0, 2.0, [0.0, 584.0]),
    case!("int8_nemotron_8b_rows", 8.0, [40.0, 8192.0, 8192.0], 8.0, 1024.0, 2.0, [0.0, 18560.0]),
    case!("int8_runs_of_64", 8.0, [17.0, 768.0, 48.0], 3.0, 64.0, 0.0, [4.0, 776.0]; 1.0),
    case!("int8_one_norm", 8.0, [18.0, 512.0, 512.0], 1.0, 256.0, 1.0, [0.0, 512.0]),
    case!("int8_norms_of_1280", 8.0, [5.0, 10240.0, 64.0], 8.0, 256.0, 0.0, [0.0, 22656.0]),
    case!("int8_norms_of_1024", 8.0, [16.0, 3072.0, 3072.0], 3.0, 1024.0, 2.0, [16.0, 3088.0]),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let (d, eps) = (case.sizes.k, 1e-5);
    let y = s.input([1, d], Fill::Outliers)?;
    let projected = s.input([1, a.usize("gate_stride")], Fill::Normal(a.get("gate").unwrap_or(2.0) as f32))?;
    let norm_weight = s.input([d], Fill::Normal(1.0))?;
    let [_, _, weight, weight_scales] = case.quantized(s, a.usize("bits"))?;
    let out = case.out(s)?;
    let gate = Columns::new(NAME, &projected, a.usize("gate_offset"), d)?;
    let norm = GatedNorm { groups: a.usize("groups"), block: a.usize("block"), eps };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    rms_norm_gated_matvec(s.plan(), &y, &gate, &norm_weight, (norm, case.x_group), weight, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    let case = CaseOf::new(a);
    let (product, d) = (case.work(32, a.usize("bits")), case.sizes.k);
    Work { bytes: product.bytes + 8 * d, ops: product.ops + d * (15 + a.usize("block").ilog2() as usize) }
}
