//! Product of one token of int8 codes with an int4 weight.

use super::bindings::matvec_w4a8::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::matmul::{CaseOf, Epilogue};
use super::scaled::{IntProduct, LONG, Scaled};
use super::weight_scales::ScaledWeight;
use crate::error::Result;
use crate::gpu::{DeviceTensor, Plan};
use crate::shaders::matvec_w4a8::{Format, Params};

/// `out[i, j] = Σ_s scales[i, s] * weight_scales[j, s] * Σ_{c in span s} codes[i, c] * weight[j, c]`, then the epilogue.
/// Spans are the smaller of the groups of `x` and `weight`; the sums over them are exact int32 where a row is one span.
/// QServe, Lin et al. 2024, arXiv:2405.04532.
///
/// `x`: `[1, k]` int8; `weight`: `[n, k]` int4; `out`: `[1, n]` f32. Groups are multiples of 8, or `k` or more for
/// one group a row; one of the two divides the other.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// groups that do not fit or several rows.
pub fn matvec_w4a8(
    plan: &mut Plan,
    x: Scaled<'_>,
    weight: ScaledWeight<'_>,
    out: &DeviceTensor,
    epilogue: Epilogue,
) -> Result<()> {
    let product = IntProduct::of("matvec_w4a8", x, weight, 4, &out.into())?;
    let format = match product.in_quads(4) {
        true if product.sizes.k >= LONG => Format::Long,
        true => Format::Quads,
        false => Format::Any,
    };
    let IntProduct { sizes, group, weight_scale_bits, x_group, .. } = product;
    let sizes = sizes.one_row("matvec_w4a8")?;
    let params = Params {
        n: sizes.n as u32,
        k: sizes.k as u32,
        group: group as u32,
        scale_bits: weight_scale_bits,
        x_group: x_group as u32,
        epilogue: epilogue as u32,
    };
    let bindings =
        Bindings { codes: x.codes, scales: x.scales, weight: weight.codes, weight_scales: weight.scales, out };
    launch(plan, format, params, bindings, sizes.rows())
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matvec_w4a8", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case { name: "one_element", args: &[("n", 1.0), ("k", 1.0)] },
    Case { name: "primes_add", args: &[("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "odd_k", args: &[("n", 129.0), ("k", 257.0)] },
    Case { name: "odd_word_of_codes", args: &[("n", 6.0), ("k", 12.0)] },
    Case { name: "short_last_group", args: &[("n", 40.0), ("k", 1344.0), ("group", 128.0), ("short_scales", 1.0)] },
    Case { name: "ragged_last_group_relu2", args: &[("n", 11.0), ("k", 133.0), ("group", 64.0), ("epilogue", 1.0)] },
    Case { name: "nano_down_add", args: &[("n", 128.0), ("k", 672.0), ("group", 32.0), ("epilogue", 2.0)] },
    Case { name: "nemotron_8b_q_proj_rows", args: &[("n", 256.0), ("k", 4096.0), ("group", 128.0)] },
    Case { name: "x_groups_of_32", args: &[("n", 70.0), ("k", 160.0), ("x_group", 32.0)] },
    Case {
        name: "x_groups_of_64_in_groups_of_128",
        args: &[("n", 19.0), ("k", 320.0), ("group", 128.0), ("x_group", 64.0), ("epilogue", 2.0)],
    },
    Case {
        name: "x_groups_of_128_over_groups_of_32",
        args: &[
            ("n", 66.0),
            ("k", 320.0),
            ("group", 32.0),
            ("x_group", 128.0),
            ("epilogue", 1.0),
            ("short_scales", 1.0),
        ],
    },
    Case { name: "x_one_group_over_groups_of_64", args: &[("n", 9.0), ("k", 199.0), ("group", 64.0)] },
    Case { name: "x_ragged_last_group", args: &[("n", 10.0), ("k", 197.0), ("x_group", 64.0)] },
    Case { name: "x_groups_of_one_word", args: &[("n", 5.0), ("k", 40.0), ("x_group", 8.0)] },
    Case { name: "quads_second_step", args: &[("n", 6.0), ("k", 2080.0)] },
    Case {
        name: "quads_in_spans_add",
        args: &[("n", 5.0), ("k", 4128.0), ("group", 96.0), ("x_group", 32.0), ("epilogue", 2.0)],
    },
    Case {
        name: "long_rows_in_spans_add",
        args: &[
            ("n", 6.0),
            ("k", 8256.0),
            ("group", 96.0),
            ("x_group", 32.0),
            ("epilogue", 2.0),
            ("short_scales", 1.0),
        ],
    },
    Case { name: "long_rows_top_of_int32", args: &[("n", 3.0), ("k", 131_040.0), ("corners", 2.0)] },
    Case { name: "long_rows_of_a_ragged_group", args: &[("n", 6.0), ("k", 8256.0), ("group", 128.0)] },
    Case { name: "bf16_scales", args: &[("n", 67.0), ("k", 31.0), ("bf16_scales", 1.0)] },
    // docs/driver-faults.md: wgpu #7494 and #7574 (packed dot products).
    Case { name: "dp4a_minus_128_corners", args: &[("n", 70.0), ("k", 256.0), ("corners", 1.0)] },
    Case { name: "dp4a_top_of_int32", args: &[("n", 5.0), ("k", 131_064.0), ("corners", 2.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let [codes, scales, weight, weight_scales] = case.quantized(s, 4)?;
    let out = case.out(s)?;
    let x = Scaled { codes: &codes, scales: &scales, group: case.x_group };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    matvec_w4a8(s.plan(), x, weight, &out, case.epilogue)
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(8, 4)
}
