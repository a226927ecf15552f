//! A product of one token in groups of 32 columns added to the residual stream, and codes of that for the next norm.

use super::bindings::matvec_grouped_add::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::grouped_rows::{GroupedCase, GroupedRows, GroupedToken, NormFactors, TOKEN_GROUP, grouped_case, out_scales};
use super::weight_scales::ScaledWeight;
use super::{expect, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_grouped_add::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "matvec_grouped_add";

/// [`super::matvec_grouped`] added to `stream`, and codes of that times the weight of the next norm, whose factor they are without. A
/// norm's factor is one for all columns and the codes of each group have a scale, so nobody has to wait for it. Zhang & Sennrich 2019, arXiv:1910.07467.
///
/// `weight`: `[n, k]` int4 or int8; `next_norm`: `[n]` f32; `stream`: `[1, n]` f32; `out`: of `n` columns, written.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for columns that are not whole
/// groups of 32, groups of the weight that are not whole 16 bytes, and norms or outputs that are not whole
/// groups.
pub fn matvec_grouped_add(
    plan: &mut Plan,
    x: GroupedToken<'_>,
    norm: Option<NormFactors>,
    weight: ScaledWeight<'_>,
    next_norm: &DeviceTensor,
    stream: &DeviceTensor,
    out: GroupedToken<'_>,
) -> Result<()> {
    let GroupedRows { n, k, group, scale_bits, norm_group, eps, bits, grid } =
        GroupedRows::of(NAME, x, norm, weight, None)?;
    out.expect(NAME, n as usize)?;
    f32_tensor(NAME, "next_norm", next_norm)?;
    f32_tensor(NAME, "stream", stream)?;
    expect(NAME, "next_norm", next_norm, [n as usize])?;
    expect(NAME, "stream", stream, [1, n as usize])?;
    let params = Params { n, k, group, scale_bits, norm_group, eps };
    let format = if bits == 4 { Format::Int4 } else { Format::Int8 };
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
    grouped_case!("int4_one_vec4", 4.0, [32.0, 32.0, 32.0], 32.0),
    grouped_case!("int4_norms_of_96", 4.0, [64.0, 1440.0, 32.0], 96.0; 1.0),
    grouped_case!("int8", 8.0, [96.0, 1056.0, 1056.0], 0.0),
    grouped_case!("int8_in_groups_normed", 8.0, [64.0, 2080.0, 16.0], 2080.0; 1.0),
    grouped_case!("int8_one_group", 8.0, [32.0, 32.0, 32.0], 0.0),
    grouped_case!("int8_norms_of_1024", 8.0, [64.0, 9216.0, 9216.0], 1024.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (case, input) = GroupedCase::new(s, a)?;
    let n = case.sizes.n;
    let norm = s.input([n], Fill::Normal(1.0))?;
    let stream = s.state("stream", [1, n], Fill::Normal(1.0))?;
    let codes = s.rounded_output("out_codes", DType::I8, [1, n])?;
    let scales = out_scales(s, n / TOKEN_GROUP)?;
    let out = GroupedToken { codes: &codes, scales: &scales };
    matvec_grouped_add(s.plan(), input.token(), input.norm, input.weight(), &norm, &stream, out)
}

fn work(a: &Args) -> Work {
    GroupedCase::work(a)
}
