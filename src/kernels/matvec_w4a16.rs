//! Product of one token with an int4 weight that the kernel dequantizes.

use super::bindings::matvec_w4a16::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::{CaseOf, Epilogue, Sizes};
use super::weight_scales::ScaledWeight;
use super::{expect_dtype, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_w4a16::Params;
use crate::tensor::DType;

/// `out = x · (weight * weight_scales)ᵀ`, then the epilogue; products and sums in f32. GPTQ's weight-only form,
/// Frantar et al. 2022, arXiv:2210.17323. One token: `m` is 1.
///
/// `x`: `[1, k]` f32; `weight`: `[n, k]` int4 in groups of a multiple of 8 columns, or `k` or more for one group a row; `out`: `[1, n]` f32.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// a group that does not fit or several rows.
pub fn matvec_w4a16(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: ScaledWeight<'_>,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    f32_tensor("matvec_w4a16", "x", x)?;
    expect_dtype("matvec_w4a16", "weight", weight.codes, DType::I4, "i4")?;
    let sizes = Sizes::of("matvec_w4a16", "x", x, weight.codes, &out.into())?.one_row("matvec_w4a16")?;
    let (group, scale_bits) = weight.check("matvec_w4a16", [sizes.n, sizes.k], 8)?;
    let params =
        Params { n: sizes.n as u32, k: sizes.k as u32, group: group as u32, scale_bits, epilogue: epilogue as u32 };
    launch(plan, params, Bindings { x, weight: weight.codes, weight_scales: weight.scales, out }, sizes.rows())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matvec_w4a16", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("n", 1.0), ("k", 1.0)] },
    Case { name: "primes_add", args: &[("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "odd_k", args: &[("n", 129.0), ("k", 257.0)] },
    Case { name: "odd_word_of_codes", args: &[("n", 6.0), ("k", 12.0)] },
    Case { name: "short_last_group", args: &[("n", 40.0), ("k", 1344.0), ("group", 128.0), ("short_scales", 1.0)] },
    Case { name: "ragged_last_group_relu2", args: &[("n", 11.0), ("k", 133.0), ("group", 64.0), ("epilogue", 1.0)] },
    Case { name: "nano_down_add", args: &[("n", 128.0), ("k", 672.0), ("group", 32.0), ("epilogue", 2.0)] },
    Case { name: "nemotron_8b_q_proj_rows", args: &[("n", 256.0), ("k", 4096.0), ("group", 128.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let x = s.input([case.sizes.m, case.sizes.k], Fill::Outliers)?;
    let weight = s.codes(4, [case.sizes.n, case.sizes.k])?;
    let weight_scales = case.weight_scales(s, 4)?;
    let out = case.out(s)?;
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    matvec_w4a16(s.plan(), &x, weight, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(32, 4)
}
