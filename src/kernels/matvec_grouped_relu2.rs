//! A product of few tokens in groups of 32 columns, squared ReLU, and codes of that.

use super::bindings::matvec_grouped_relu2::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::grouped_rows::{
    GroupedCase, GroupedRows, GroupedTokens, NormFactors, TOKEN_GROUP, grouped_case, out_scales, turn,
};
use super::matmul::Sizes;
use super::weight_scales::ScaledWeight;
use crate::error::Result;
use crate::gpu::Plan;
use crate::shaders::matvec_grouped_relu2::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "matvec_grouped_relu2";

/// [`super::matvec_grouped`], `max(y, 0)²` of that, a Hadamard transform of blocks of `block` (a power of two up to 32; 1: none), and
/// codes of those. QuaRot, arXiv:2404.00456.
///
/// `weight`: `[n, k]` int4 or int8; `out`: of `n` columns, written.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for too many tokens, columns that are not whole
/// groups of 32, groups of the weight that are not whole 16 bytes, and norms or outputs that are not whole
/// groups, and other blocks.
pub fn matvec_grouped_relu2(
    plan: &mut Plan,
    x: GroupedTokens<'_>,
    norm: Option<NormFactors>,
    weight: ScaledWeight<'_>,
    block: usize,
    out: GroupedTokens<'_>,
) -> Result<()> {
    let GroupedRows { tokens, n, k, group, scale_bits, norm_group, eps, bits, grid } =
        GroupedRows::of(NAME, x, norm, weight, None)?;
    let rows = [tokens as usize, n as usize];
    out.expect(NAME, rows)?;
    let (log_run, unit) = turn(NAME, block)?;
    let params = Params { tokens, n, k, group, scale_bits, norm_group, eps, log_run, unit };
    let format = if bits == 4 { Format::Int4 } else { Format::Int8 };
    let bindings = Bindings {
        codes: x.codes,
        scales: x.scales,
        weight: weight.codes,
        weight_scales: weight.scales,
        out_codes: out.codes,
        out_scales: out.scales,
    };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    grouped_case!("int4", 4.0, [64.0, 2080.0, 2080.0], 0.0, 32.0),
    grouped_case!("int4_in_groups_normed", 4.0, [96.0, 2112.0, 96.0], 2112.0, 1.0),
    grouped_case!("int4_nemotron_8b_rows", 4.0, [32.0, 4096.0, 128.0], 4096.0, 16.0; 1.0),
    grouped_case!("int4_one_vec4", 4.0, [32.0, 32.0, 32.0], 32.0, 4.0),
    grouped_case!("int4_norms_of_96", 4.0, [64.0, 1440.0, 32.0], 96.0, 2.0; 1.0),
    grouped_case!("int4_two_tokens", 4.0, [2.0, 64.0, 1056.0, 96.0], 0.0, 32.0),
    grouped_case!("int4_eight_tokens_normed", 4.0, [8.0, 96.0, 1440.0, 32.0], 1440.0, 8.0; 1.0),
    grouped_case!("int8_three_tokens", 8.0, [3.0, 64.0, 2080.0, 16.0], 2080.0, 1.0),
    grouped_case!("int8", 8.0, [96.0, 1056.0, 1056.0], 0.0, 8.0),
    grouped_case!("int8_in_groups_normed", 8.0, [64.0, 2080.0, 16.0], 2080.0, 32.0; 1.0),
    grouped_case!("int8_one_group", 8.0, [32.0, 32.0, 32.0], 0.0, 1.0),
    grouped_case!("int8_norms_of_1024", 8.0, [64.0, 9216.0, 9216.0], 1024.0, 4.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (case, input) = GroupedCase::new(s, a)?;
    let Sizes { m, n, .. } = case.sizes;
    let codes = s.rounded_output("out_codes", DType::I8, [m, n])?;
    let scales = out_scales(s, m * n / TOKEN_GROUP)?;
    let out = GroupedTokens { codes: &codes, scales: &scales };
    matvec_grouped_relu2(s.plan(), input.tokens(), input.norm, input.weight(), a.usize("block"), out)
}

fn work(a: &Args) -> Work {
    GroupedCase::work(a)
}
