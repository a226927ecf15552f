//! A token's root-mean-square norm, its int8 codes and their product with a weight, in one dispatch.

use super::bindings::rms_norm_matvec::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::made_token::{Groups, Made, pays};
use super::matmul::{CaseOf, Epilogue};
use super::weight_scales::ScaledWeight;
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{Device, DeviceTensor, Plan};
use crate::shaders::rms_norm_matvec::{Format, Params};

const NAME: &str = "rms_norm_matvec";
/// Most columns, which registers and workgroup memory hold.
const MOST: usize = 8192;

/// Does [`rms_norm_matvec`] take tokens of `cols` columns and such groups, and is it faster on `device` than
/// [`super::rms_norm_quantize`] and a product?
#[must_use]
pub fn rms_norm_matvec_pays(device: &Device, cols: usize, groups: Groups) -> bool {
    pays(device) && groups.fit(MOST, cols)
}

/// [`super::rms_norm_quantize`] of one token with a scale for each `x_group` columns, and [`super::matvec_w4a8`] or
/// [`super::matvec_w8a8`] of its codes, which are not kept. Zhang & Sennrich 2019, arXiv:1910.07467; QServe, Lin et al. 2024, arXiv:2405.04532.
///
/// `x`: `[1, cols]` f32; `norm`: `[cols]` f32; `weight`: `[n, cols]` int4 or int8; `out`: `[1, n]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for several rows, more than
/// 8192 columns, rows or groups of the weight that are not whole 16 bytes, and other groups of the token than 32, 64, 128 and all
/// of its columns.
pub fn rms_norm_matvec(
    plan: &mut Plan,
    x: &DeviceTensor,
    (norm, eps, x_group): (&DeviceTensor, f32, usize),
    weight: ScaledWeight<'_>,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    f32_tensor(NAME, "x", x)?;
    f32_tensor(NAME, "norm", norm)?;
    let Made { n, cols, group, scale_bits, x_group, epilogue, bits, grid } =
        Made::of(NAME, ("x", x, x_group), MOST, weight, out, epilogue)?;
    expect(NAME, "norm", norm, [x.shape.cols()])?;
    let params = Params { n, cols, group, scale_bits, x_group, epilogue, eps };
    let format = if bits == 4 { Format::Int4 } else { Format::Int8 };
    let bindings = Bindings { x, norm, weight: weight.codes, weight_scales: weight.scales, out };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, [$n:expr, $k:expr, $group:expr], $epilogue:expr, $eps:expr, $step:expr $(, $x_group:expr)? $(; $short:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("n", $n),
                ("k", $k),
                ("group", $group),
                ("epilogue", $epilogue),
                ("eps", $eps),
                ("step", $step),
                $(("x_group", $x_group),)?
                $(("short_scales", $short),)?
            ],
        }
    };
}

const CASES: &[Case] = &[
    case!("int4", 4.0, [6.0, 2080.0, 2080.0], 0.0, 1e-5, 0.01),
    case!("int4_in_groups_relu2", 4.0, [67.0, 2112.0, 96.0], 1.0, 1e-5, 0.1; 1.0),
    case!("int4_nemotron_8b_rows", 4.0, [40.0, 4096.0, 128.0], 0.0, 1e-5, 0.02; 1.0),
    case!("int4_widest_add", 4.0, [5.0, 8192.0, 64.0], 2.0, 1e-5, 1.0),
    case!("int4_one_vec4", 4.0, [33.0, 32.0, 32.0], 0.0, 1e-5, 0.01),
    case!("int4_of_zeros_add", 4.0, [9.0, 320.0, 320.0], 2.0, 1e-5, 0.0),
    case!("int8", 8.0, [6.0, 1040.0, 1040.0], 0.0, 1e-5, 0.01),
    case!("int8_in_groups_relu2", 8.0, [67.0, 2064.0, 48.0], 1.0, 1e-5, 0.1; 1.0),
    case!("int8_nemotron_8b_rows", 8.0, [40.0, 4096.0, 4096.0], 0.0, 1e-5, 0.02),
    case!("int8_widest_add", 8.0, [5.0, 8192.0, 64.0], 2.0, 1e-5, 1.0),
    case!("int8_one_vec4", 8.0, [33.0, 16.0, 16.0], 0.0, 1e-5, 0.01),
    case!("int4_token_in_groups_of_32", 4.0, [21.0, 2080.0, 2080.0], 1.0, 1e-5, 0.1, 32.0),
    case!("int8_token_in_groups_of_32_wide", 8.0, [18.0, 4160.0, 4160.0], 0.0, 1e-5, 0.1, 32.0),
    case!("int8_token_in_groups_of_64", 8.0, [18.0, 2048.0, 2048.0], 0.0, 1e-5, 0.1, 64.0),
    case!("int8_token_in_groups_of_128_add", 8.0, [18.0, 4096.0, 64.0], 2.0, 1e-5, 0.1, 128.0),
    case!("int8_large_eps", 8.0, [9.0, 320.0, 320.0], 0.0, 4.0, 1e-3),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let k = case.sizes.k;
    // Whole steps of int8 once the norm's weight is there, so that no code hangs on rounding.
    let [norm, steps] = case.steps(s, a.f64("step") as f32);
    let x: Vec<f32> = steps.iter().zip(&norm).map(|(v, w)| v / w).collect();
    let (x, norm) = (s.device().upload_f32([1, k], &x)?, s.device().upload_f32([k], &norm)?);
    let [_, _, weight, weight_scales] = case.quantized(s, a.usize("bits"))?;
    let out = case.out(s)?;
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    rms_norm_matvec(s.plan(), &x, (&norm, a.f64("eps") as f32, case.x_group), weight, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    let case = CaseOf::new(a);
    let product = case.work(32, a.usize("bits"));
    Work { bytes: product.bytes + 4 * case.sizes.k, ops: product.ops + 5 * case.sizes.k }
}
