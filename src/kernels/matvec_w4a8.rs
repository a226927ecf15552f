//! Product of one token of int8 codes with an int4 weight.

use super::bindings::matvec_w4a8::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::expect_dtype;
use super::matmul::{CaseOf, Epilogue, Sizes, group_of, tokens};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_w4a8::Params;
use crate::tensor::DType;

/// `out[i, j] = scales[i] * Σ_g weight_scales[j, g] * Σ_{c in group g} codes[i, c] * weight[j, c]`, then the epilogue;
/// the inner sums are exact int32. QServe, Lin et al. 2024, arXiv:2405.04532. One token: `m` is 1.
///
/// `codes`: `[1, k]` int8; `scales`: `[1]` f32; `weight`: `[n, k]` int4; `weight_scales`: `[n, ceil(k / group)]` f32
/// (or `[n]` for one group); `out`: `[1, n]` f32. `group` is a multiple of 8, or `k` or more for one group a row.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// a group that does not fit or several rows.
#[allow(clippy::too_many_arguments, reason = "a product of two quantized operands has that many")]
pub fn matvec_w4a8(
    plan: &mut Plan,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    weight: &DeviceTensor,
    weight_scales: &DeviceTensor,
    group: usize,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    tokens("matvec_w4a8", codes, scales)?;
    expect_dtype("matvec_w4a8", "weight", weight, DType::I4, "i4")?;
    let sizes = Sizes::of("matvec_w4a8", "codes", codes, weight, out)?.one_row("matvec_w4a8")?;
    let group = group_of("matvec_w4a8", weight_scales, sizes, group, 8)? as u32;
    let params = Params { n: sizes.n as u32, k: sizes.k as u32, group, epilogue: epilogue as u32 };
    launch(plan, params, Bindings { codes, scales, weight, weight_scales, out }, sizes.rows())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matvec_w4a8", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("n", 1.0), ("k", 1.0)] },
    Case { name: "primes_add", args: &[("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "odd_k", args: &[("n", 129.0), ("k", 257.0)] },
    Case { name: "odd_word_of_codes", args: &[("n", 6.0), ("k", 12.0)] },
    Case { name: "short_last_group", args: &[("n", 40.0), ("k", 1344.0), ("group", 128.0)] },
    Case { name: "ragged_last_group_relu2", args: &[("n", 11.0), ("k", 133.0), ("group", 64.0), ("epilogue", 1.0)] },
    Case { name: "nano_down_add", args: &[("n", 128.0), ("k", 672.0), ("group", 32.0), ("epilogue", 2.0)] },
    Case { name: "nemotron_8b_q_proj_rows", args: &[("n", 256.0), ("k", 4096.0), ("group", 128.0)] },
    // docs/driver-faults.md: wgpu #7494 and #7574 (packed dot products).
    Case { name: "dp4a_minus_128_corners", args: &[("n", 70.0), ("k", 256.0), ("corners", 1.0)] },
    Case { name: "dp4a_top_of_int32", args: &[("n", 5.0), ("k", 131_064.0), ("corners", 2.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let [codes, scales, weight, weight_scales] = case.quantized(s, 4)?;
    let out = case.out(s)?;
    matvec_w4a8(s.plan(), &codes, &scales, &weight, &weight_scales, case.group, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(8, 4)
}
