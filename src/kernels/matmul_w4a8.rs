//! Product of int8 codes with an int4 weight.

use super::bindings::matmul_w4a8::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::expect_dtype;
use super::matmul::{CaseOf, Epilogue, Sizes, group_of, tokens};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matmul_w4a8::Params;
use crate::tensor::DType;

/// `out[i, j] = scales[i] * Σ_g weight_scales[j, g] * Σ_{c in group g} codes[i, c] * weight[j, c]`, then the epilogue;
/// the inner sums are exact int32. QServe, Lin et al. 2024, arXiv:2405.04532.
///
/// `codes`: `[m, k]` int8; `scales`: `[m]` f32; `weight`: `[n, k]` int4; `weight_scales`: `[n, ceil(k / group)]` f32
/// (or `[n]` for one group); `out`: `[m, n]` f32. `group` is a multiple of 8, or `k` or more for one group a row.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// a group that does not fit.
#[allow(clippy::too_many_arguments, reason = "a product of two quantized operands has that many")]
pub fn matmul_w4a8(
    plan: &mut Plan,
    codes: &DeviceTensor,
    scales: &DeviceTensor,
    weight: &DeviceTensor,
    weight_scales: &DeviceTensor,
    group: usize,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    tokens("matmul_w4a8", codes, scales)?;
    expect_dtype("matmul_w4a8", "weight", weight, DType::I4, "i4")?;
    let sizes = Sizes::of("matmul_w4a8", "codes", codes, weight, out)?;
    let group = group_of("matmul_w4a8", weight_scales, sizes, group, 8)? as u32;
    let params = Params { m: sizes.m as u32, n: sizes.n as u32, k: sizes.k as u32, group, epilogue: epilogue as u32 };
    launch(plan, params, Bindings { codes, scales, weight, weight_scales, out }, sizes.tiles())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matmul_w4a8", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("m", 1.0), ("n", 1.0), ("k", 1.0)] },
    Case { name: "primes", args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "past_a_tile_odd_k", args: &[("m", 65.0), ("n", 129.0), ("k", 257.0)] },
    Case { name: "odd_word_of_codes", args: &[("m", 5.0), ("n", 6.0), ("k", 12.0)] },
    Case { name: "group_32_relu2", args: &[("m", 9.0), ("n", 70.0), ("k", 96.0), ("group", 32.0), ("epilogue", 1.0)] },
    Case { name: "short_last_group", args: &[("m", 10.0), ("n", 40.0), ("k", 1344.0), ("group", 128.0)] },
    Case { name: "ragged_last_group", args: &[("m", 3.0), ("n", 11.0), ("k", 133.0), ("group", 64.0)] },
    Case { name: "nano_in_proj", args: &[("m", 37.0), ("n", 648.0), ("k", 128.0), ("group", 64.0)] },
    Case {
        name: "nano_down_add",
        args: &[("m", 20.0), ("n", 128.0), ("k", 672.0), ("group", 32.0), ("epilogue", 2.0)],
    },
    // docs/driver-faults.md: wgpu #7494 and #7574 (packed dot products).
    Case { name: "dp4a_minus_128_corners", args: &[("m", 9.0), ("n", 70.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "dp4a_top_of_int32", args: &[("m", 2.0), ("n", 3.0), ("k", 131_064.0), ("corners", 2.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let [codes, scales, weight, weight_scales] = case.quantized(s, 4)?;
    let out = case.out(s)?;
    matmul_w4a8(s.plan(), &codes, &scales, &weight, &weight_scales, case.group, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(8, 4)
}
