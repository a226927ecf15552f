//! A product of few tokens in groups of 32 columns.

use super::bindings::matvec_grouped::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::f32_tensor;
use super::grouped_rows::{GroupedCase, GroupedRows, GroupedTokens, NormFactors, grouped_case};
use super::weight_scales::ScaledWeight;
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_grouped::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "matvec_grouped";

/// [`super::matvec_w4a8`] or [`super::matvec_w8a8`] of each token in groups, times the factors of the norms that they lack.
///
/// `weight`: `[n, k]` int4 or int8; `out`: `[tokens, n]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for too many tokens, columns that are not whole
/// groups of 32, groups of the weight that are not whole 16 bytes, and norms that are not whole groups.
pub fn matvec_grouped(
    plan: &mut Plan,
    x: GroupedTokens<'_>,
    norm: Option<NormFactors>,
    weight: ScaledWeight<'_>,
    out: &DeviceTensor,
) -> Result<()> {
    f32_tensor(NAME, "out", out)?;
    let GroupedRows { tokens, n, k, group, scale_bits, norm_group, eps, bits, grid } =
        GroupedRows::of(NAME, x, norm, weight, Some(&out.into()))?;
    let params = Params { tokens, n, k, group, scale_bits, norm_group, eps };
    let format = if bits == 4 { Format::Int4 } else { Format::Int8 };
    let bindings =
        Bindings { codes: x.codes, scales: x.scales, weight: weight.codes, weight_scales: weight.scales, out };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    grouped_case!("int4", 4.0, [6.0, 2080.0, 2080.0], 0.0),
    grouped_case!("int4_in_groups_normed", 4.0, [67.0, 2112.0, 96.0], 2112.0),
    grouped_case!("int4_nemotron_8b_rows", 4.0, [40.0, 4096.0, 128.0], 4096.0; 1.0),
    grouped_case!("int4_one_vec4", 4.0, [33.0, 32.0, 32.0], 32.0),
    grouped_case!("int4_norms_of_96", 4.0, [70.0, 1440.0, 32.0], 96.0; 1.0),
    grouped_case!("int4_two_tokens", 4.0, [2.0, 67.0, 1056.0, 96.0], 0.0),
    grouped_case!("int4_three_tokens_normed", 4.0, [3.0, 40.0, 2080.0, 32.0], 2080.0; 1.0),
    grouped_case!("int4_eight_tokens_norms_of_96", 4.0, [8.0, 70.0, 1440.0, 1440.0], 96.0),
    grouped_case!("int8_five_tokens_normed", 8.0, [5.0, 67.0, 1056.0, 16.0], 1056.0; 1.0),
    grouped_case!("int8", 8.0, [6.0, 1056.0, 1056.0], 0.0),
    grouped_case!("int8_in_groups_normed", 8.0, [67.0, 2080.0, 16.0], 2080.0; 1.0),
    grouped_case!("int8_one_group", 8.0, [3.0, 32.0, 32.0], 0.0),
    grouped_case!("int8_norms_of_1024", 8.0, [40.0, 9216.0, 9216.0], 1024.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (case, input) = GroupedCase::new(s, a)?;
    let out = s.output("out", DType::F32, [case.sizes.m, case.sizes.n])?;
    matvec_grouped(s.plan(), input.tokens(), input.norm, input.weight(), &out)
}

fn work(a: &Args) -> Work {
    GroupedCase::work(a)
}
