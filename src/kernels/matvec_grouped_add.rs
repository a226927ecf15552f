//! A product of few tokens in groups of 32 columns added to the residual stream, and codes of that for the next norm.

use super::bindings::matvec_grouped_add::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::grouped_rows::{
    GroupedCase, GroupedRows, GroupedTokens, NormFactors, TOKEN_GROUP, grouped_case, out_scales,
};
use super::matmul::Sizes;
use super::weight_scales::ScaledWeight;
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_grouped_add::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "matvec_grouped_add";
/// Tokens up to which int4 weights are taken by a thousand threads a workgroup. 4096 x 21504 on an H200, us: of two tokens 16.6, with half as many
/// threads 20.1; of four 33.4 and 24.9, of eight 44.7 and 34.0.
const MOST_WIDE: u32 = 2;
/// Rows up to which they are: a workgroup for each of an H200's processors. 4480 x 15680 (140 of them) takes 20.3 us there, with half as many threads 17.7.
const MOST_ROWS: u32 = 132 * TOKEN_GROUP as u32;

/// [`super::matvec_grouped`] added to `stream`, and codes of that times the weight of the next norm, whose factor they are without. A
/// norm's factor is one for all columns and the codes of each group have a scale, so nobody has to wait for it. Zhang & Sennrich 2019, arXiv:1910.07467.
///
/// `weight`: `[n, k]` int4 or int8; `next_norm`: `[n]` f32; `stream`: `[tokens, n]` f32; `out`: of `n` columns, written.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for too many tokens, columns that are not whole
/// groups of 32, groups of the weight that are not whole 16 bytes, and norms or outputs that are not whole
/// groups.
pub fn matvec_grouped_add(
    plan: &mut Plan,
    x: GroupedTokens<'_>,
    norm: Option<NormFactors>,
    weight: ScaledWeight<'_>,
    next_norm: &DeviceTensor,
    stream: &DeviceTensor,
    out: GroupedTokens<'_>,
) -> Result<()> {
    let GroupedRows { tokens, n, k, group, scale_bits, norm_group, eps, bits, grid } =
        GroupedRows::of(NAME, x, norm, weight, None)?;
    let rows = [tokens as usize, n as usize];
    out.expect(NAME, rows)?;
    f32_tensor(NAME, "next_norm", next_norm)?;
    f32_tensor(NAME, "stream", stream)?;
    expect(NAME, "next_norm", next_norm, [n as usize])?;
    expect(NAME, "stream", stream, rows)?;
    let params = Params { tokens, n, k, group, scale_bits, norm_group, eps };
    let format = match bits {
        4 if tokens <= MOST_WIDE && n <= MOST_ROWS => Format::Int4,
        4 => Format::Int4Several,
        _ => Format::Int8,
    };
    let bindings = Bindings {
        codes: x.codes,
        scales: x.scales,
        weight: weight.codes,
        weight_scales: weight.scales,
        norm: next_norm,
        stream,
        out_codes: out.codes,
        out_scales: out.scales,
    };
    launch(plan, format, params, bindings, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    grouped_case!("int4", 4.0, [64.0, 2080.0, 2080.0], 0.0),
    grouped_case!("int4_in_groups_normed", 4.0, [96.0, 2112.0, 96.0], 2112.0),
    grouped_case!("int4_nemotron_8b_rows", 4.0, [32.0, 4096.0, 128.0], 4096.0; 1.0),
    grouped_case!("int4_more_rows_than_cores", 4.0, [4256.0, 96.0, 32.0], 96.0),
    grouped_case!("int4_one_vec4", 4.0, [32.0, 32.0, 32.0], 32.0),
    grouped_case!("int4_norms_of_96", 4.0, [64.0, 1440.0, 32.0], 96.0; 1.0),
    grouped_case!("int4_two_tokens", 4.0, [2.0, 64.0, 4128.0, 96.0], 0.0),
    grouped_case!("int4_eight_tokens_norms_of_96", 4.0, [8.0, 96.0, 1440.0, 1440.0], 96.0; 1.0),
    grouped_case!("int4_three_tokens_normed", 4.0, [3.0, 64.0, 2080.0, 2080.0], 2080.0),
    grouped_case!("int8_three_tokens_normed", 8.0, [3.0, 64.0, 2080.0, 16.0], 2080.0),
    grouped_case!("int8", 8.0, [96.0, 1056.0, 1056.0], 0.0),
    grouped_case!("int8_in_groups_normed", 8.0, [64.0, 2080.0, 16.0], 2080.0; 1.0),
    grouped_case!("int8_one_group", 8.0, [32.0, 32.0, 32.0], 0.0),
    grouped_case!("int8_norms_of_1024", 8.0, [64.0, 9216.0, 9216.0], 1024.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (case, input) = GroupedCase::new(s, a)?;
    let Sizes { m, n, .. } = case.sizes;
    let norm = s.input([n], Fill::Normal(1.0))?;
    let stream = s.state("stream", [m, n], Fill::Normal(1.0))?;
    let codes = s.rounded_output("out_codes", DType::I8, [m, n])?;
    let scales = out_scales(s, m * n / TOKEN_GROUP)?;
    let out = GroupedTokens { codes: &codes, scales: &scales };
    matvec_grouped_add(s.plan(), input.tokens(), input.norm, input.weight(), &norm, &stream, out)
}

fn work(a: &Args) -> Work {
    GroupedCase::work(a)
}
