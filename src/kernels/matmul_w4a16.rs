//! Product with an int4 weight that the kernel dequantizes.

use super::Columns;
use super::bindings::matmul_w4a16::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::matmul::{CaseOf, Epilogue, Sizes};
use super::weight_scales::ScaledWeight;
use super::{expect_dtype, f32_tensor};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matmul_w4a16::Params;
use crate::tensor::DType;

/// `out = x · (weight * weight_scales)ᵀ`, then the epilogue; products and sums in f32. GPTQ's weight-only form,
/// Frantar et al. 2022, arXiv:2210.17323.
///
/// `x`: `[m, k]` f32; `weight`: `[n, k]` int4 in groups of a multiple of 8 columns, or `k` or more for one group a row; `out`: `[m, n]` f32,
/// which may be columns of wider rows.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// a group that does not fit.
pub fn matmul_w4a16<'a>(
    plan: &mut Plan,
    x: &DeviceTensor,
    weight: ScaledWeight<'_>,
    out: impl Into<Columns<'a>>,
    epilogue: Epilogue,
) -> Result<()> {
    let out = out.into();
    f32_tensor("matmul_w4a16", "x", x)?;
    expect_dtype("matmul_w4a16", "weight", weight.codes, DType::I4, "i4")?;
    let sizes = Sizes::of("matmul_w4a16", "x", x, weight.codes, &out)?;
    let (group, scale_bits) = weight.check("matmul_w4a16", [sizes.n, sizes.k], 8)?;
    let params = Params {
        m: sizes.m as u32,
        n: sizes.n as u32,
        k: sizes.k as u32,
        group: group as u32,
        scale_bits,
        epilogue: epilogue as u32,
        out_stride: out.stride() as u32,
        out_first: out.offset as u32,
    };
    let bindings = Bindings { x, weight: weight.codes, weight_scales: weight.scales, out: out.tensor };
    launch(plan, params, bindings, sizes.tiles())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matmul_w4a16", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case {
        name: "columns_of_wider_rows",
        args: &[("m", 13.0), ("n", 67.0), ("k", 32.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case { name: "one_element", args: &[("m", 1.0), ("n", 1.0), ("k", 1.0)] },
    Case { name: "primes", args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "past_a_tile_odd_k", args: &[("m", 65.0), ("n", 129.0), ("k", 257.0)] },
    Case { name: "odd_word_of_codes", args: &[("m", 5.0), ("n", 6.0), ("k", 12.0)] },
    Case { name: "group_32_relu2", args: &[("m", 9.0), ("n", 70.0), ("k", 96.0), ("group", 32.0), ("epilogue", 1.0)] },
    Case {
        name: "short_last_group",
        args: &[("m", 10.0), ("n", 40.0), ("k", 1344.0), ("group", 128.0), ("short_scales", 1.0)],
    },
    Case { name: "ragged_last_group", args: &[("m", 3.0), ("n", 11.0), ("k", 133.0), ("group", 64.0)] },
    Case { name: "nano_in_proj", args: &[("m", 37.0), ("n", 648.0), ("k", 128.0), ("group", 64.0)] },
    Case {
        name: "nano_down_add",
        args: &[("m", 20.0), ("n", 128.0), ("k", 672.0), ("group", 32.0), ("epilogue", 2.0)],
    },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let x = s.input([case.sizes.m, case.sizes.k], Fill::Outliers)?;
    let weight = s.codes(4, [case.sizes.n, case.sizes.k])?;
    let weight_scales = case.weight_scales(s, 4)?;
    let out = case.out(s)?;
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    matmul_w4a16(s.plan(), &x, weight, case.columns(&out)?, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(32, 4)
}
