//! Product of int8 codes with an int8 weight.

use super::Columns;
use super::bindings::matmul_w8a8::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup, Work};
use super::matmul::{CaseOf, Epilogue};
use super::scaled::{Form, IntProduct, ScaleBits, Scaled, Shaped};
use super::split_k_reduce::SplitK;
use super::weight_scales::ScaledWeight;
use crate::error::Result;
use crate::gpu::Plan;
use crate::shaders::matmul_w8a8::{Format, KERNEL, Params};

/// `out[i, j] = Σ_s scales[i, s] * weight_scales[j, s] * Σ_{c in span s} codes[i, c] * weight[j, c]`, then the epilogue.
/// Spans are the smaller of the groups of `x` and `weight`; the sums over them are exact int32.
/// SmoothQuant, Xiao et al. 2022, arXiv:2211.10438.
///
/// `x`: `[m, k]` int8; `weight`: `[n, k]` int8; `out`: `[m, n]` f32, which may be columns of wider rows. Groups are multiples of 4, or `k` or more for
/// one group a row; one of the two divides the other. `bits` of the scales choose the kernel for many tokens, which
/// `split` lets cut `k`.
///
/// # Errors
/// [`crate::Error::Shape`] or [`crate::Error::DType`] naming the argument at fault; [`crate::Error::Argument`] for
/// groups that do not fit, or room that is too small for the slices asked for.
pub fn matmul_w8a8<'a>(
    plan: &mut Plan,
    x: Scaled<'_>,
    weight: ScaledWeight<'_>,
    bits: ScaleBits,
    out: impl Into<Columns<'a>>,
    epilogue: Epilogue,
    split: Option<SplitK<'_>>,
) -> Result<()> {
    let out = out.into();
    let product = IntProduct::of("matmul_w8a8", x, weight, 8, &out)?;
    let format = |form| match form {
        Form::Any => Format::Any,
        Form::Blocks => Format::Blocks,
        Form::Rows => Format::Rows,
        Form::Groups => Format::Groups,
        Form::Few => Format::Few,
        Form::Batch => Format::Batch,
        Form::Tile16x64 => Format::Tile16x64,
        Form::Tile32x128 => Format::Tile32x128,
        Form::Tile64x128 => Format::Tile64x128,
    };
    let kernel = (&KERNEL, |form| format(form).word());
    let Shaped { form, grid, slice, whole_rounds } = product.shaped(plan, kernel, (8, bits), split, epilogue)?;
    let IntProduct { sizes, group, weight_scale_bits, x_group, .. } = product;
    let first = product.rows(weight, 0, whole_rounds.unwrap_or(sizes.n))?;
    product.in_slices(plan, slice, split, &out, epilogue, |plan, out, epilogue| {
        let params = Params {
            m: sizes.m as u32,
            n: sizes.n as u32,
            k: sizes.k as u32,
            group: group as u32,
            scale_bits: weight_scale_bits,
            x_group: x_group as u32,
            slice: slice as u32,
            epilogue: epilogue as u32,
            out_stride: out.stride() as u32,
            out_first: out.offset as u32,
        };
        let bindings =
            Bindings { codes: x.codes, scales: x.scales, weight: &first[0], weight_scales: &first[1], out: out.tensor };
        launch(plan, format(form), params, bindings, grid)
    })?;
    product.others(plan, whole_rounds, weight, &out, split, |plan, weight, out, split| {
        matmul_w8a8(plan, x, weight, bits, out, epilogue, split)
    })
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: "matmul_w8a8", cases: CASES, setup, work };

const CASES: &[Case] = &[
    Case {
        name: "columns_of_wider_rows",
        args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case { name: "columns_of_few", args: &[("m", 3.0), ("n", 67.0), ("k", 160.0), ("stride", 100.0), ("first", 20.0)] },
    Case {
        name: "columns_of_small_tiles",
        args: &[("m", 20.0), ("n", 68.0), ("k", 160.0), ("epilogue", 1.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "columns_of_tiles",
        args: &[("m", 64.0), ("n", 68.0), ("k", 160.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "columns_of_rows",
        args: &[("m", 130.0), ("n", 68.0), ("k", 160.0), ("epilogue", 2.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "columns_of_blocks",
        args: &[("m", 70.0), ("n", 67.0), ("k", 288.0), ("group", 96.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case { name: "one_element", args: &[("m", 1.0), ("n", 1.0), ("k", 1.0)] },
    Case { name: "primes", args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("epilogue", 2.0)] },
    Case { name: "past_a_tile_odd_k", args: &[("m", 65.0), ("n", 129.0), ("k", 257.0)] },
    Case { name: "group_32_relu2", args: &[("m", 9.0), ("n", 70.0), ("k", 96.0), ("group", 32.0), ("epilogue", 1.0)] },
    Case { name: "short_last_group", args: &[("m", 10.0), ("n", 40.0), ("k", 1344.0), ("group", 128.0)] },
    Case { name: "ragged_last_group", args: &[("m", 3.0), ("n", 11.0), ("k", 133.0), ("group", 64.0)] },
    Case { name: "nano_in_proj", args: &[("m", 37.0), ("n", 648.0), ("k", 128.0)] },
    Case { name: "nano_down_add", args: &[("m", 20.0), ("n", 128.0), ("k", 672.0), ("epilogue", 2.0)] },
    Case { name: "x_groups_of_32", args: &[("m", 9.0), ("n", 70.0), ("k", 160.0), ("x_group", 32.0)] },
    Case {
        name: "x_groups_of_64_in_groups_of_128",
        args: &[("m", 66.0), ("n", 19.0), ("k", 320.0), ("group", 128.0), ("x_group", 64.0), ("epilogue", 2.0)],
    },
    Case {
        name: "x_groups_of_128_over_groups_of_32",
        args: &[("m", 7.0), ("n", 66.0), ("k", 320.0), ("group", 32.0), ("x_group", 128.0), ("epilogue", 1.0)],
    },
    Case { name: "x_one_group_over_groups_of_64", args: &[("m", 5.0), ("n", 9.0), ("k", 199.0), ("group", 64.0)] },
    Case { name: "x_ragged_last_group", args: &[("m", 6.0), ("n", 10.0), ("k", 197.0), ("x_group", 64.0)] },
    Case { name: "x_groups_of_one_word", args: &[("m", 3.0), ("n", 5.0), ("k", 40.0), ("x_group", 4.0)] },
    Case { name: "blocks_past_tiles", args: &[("m", 130.0), ("n", 67.0), ("k", 2080.0), ("epilogue", 2.0)] },
    Case { name: "blocks_and_half_a_step", args: &[("m", 5.0), ("n", 66.0), ("k", 1040.0)] },
    Case {
        name: "blocks_group_288",
        args: &[("m", 70.0), ("n", 35.0), ("k", 864.0), ("group", 288.0), ("epilogue", 1.0)],
    },
    Case {
        name: "blocks_group_96",
        args: &[("m", 70.0), ("n", 35.0), ("k", 288.0), ("group", 96.0), ("epilogue", 1.0)],
    },
    Case { name: "blocks_at_2_to_the_24", args: &[("m", 2.0), ("n", 3.0), ("k", 2048.0), ("corners", 2.0)] },
    // No whole vec4s of outputs, which kernels on matrix units of the formats `rows` and `tile_..` store.
    Case { name: "odd_columns_of_many", args: &[("m", 130.0), ("n", 67.0), ("k", 160.0), ("epilogue", 2.0)] },
    Case {
        name: "columns_beside_quads",
        args: &[("m", 129.0), ("n", 68.0), ("k", 96.0), ("stride", 100.0), ("first", 21.0)],
    },
    Case {
        name: "columns_of_rows_beside_quads",
        args: &[("m", 128.0), ("n", 8.0), ("k", 64.0), ("stride", 30.0), ("first", 20.0)],
    },
    Case { name: "odd_columns_of_few", args: &[("m", 50.0), ("n", 37.0), ("k", 64.0), ("epilogue", 1.0)] },
    Case { name: "rows_at_the_corners", args: &[("m", 128.0), ("n", 72.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "rows_of_four_columns", args: &[("m", 513.0), ("n", 4.0), ("k", 16.0)] },
    Case { name: "rows_past_tiles", args: &[("m", 260.0), ("n", 132.0), ("k", 80.0), ("epilogue", 2.0)] },
    Case { name: "rows_relu2", args: &[("m", 129.0), ("n", 8.0), ("k", 1040.0), ("epilogue", 1.0)] },
    Case {
        name: "groups_of_tokens",
        args: &[("m", 260.0), ("n", 132.0), ("k", 352.0), ("x_group", 32.0), ("short_scales", 1.0), ("epilogue", 2.0)],
    },
    Case {
        name: "groups_of_the_weight",
        args: &[("m", 129.0), ("n", 68.0), ("k", 1056.0), ("group", 32.0), ("short_scales", 1.0), ("epilogue", 1.0)],
    },
    Case {
        name: "groups_of_four_columns",
        args: &[("m", 513.0), ("n", 4.0), ("k", 64.0), ("x_group", 32.0), ("short_scales", 1.0)],
    },
    Case {
        name: "groups_under_groups",
        args: &[
            ("m", 129.0),
            ("n", 68.0),
            ("k", 672.0),
            ("group", 96.0),
            ("x_group", 32.0),
            ("short_scales", 1.0),
            ("epilogue", 1.0),
        ],
    },
    Case {
        name: "groups_of_both_at_the_corners",
        args: &[
            ("m", 130.0),
            ("n", 72.0),
            ("k", 320.0),
            ("group", 128.0),
            ("x_group", 64.0),
            ("short_scales", 1.0),
            ("corners", 1.0),
        ],
    },
    Case {
        name: "rows_in_slices",
        args: &[("m", 130.0), ("n", 68.0), ("k", 336.0), ("slices", 3.0), ("epilogue", 2.0)],
    },
    Case {
        name: "columns_of_rows_in_slices",
        args: &[
            ("m", 260.0),
            ("n", 132.0),
            ("k", 1088.0),
            ("slices", 2.0),
            ("epilogue", 1.0),
            ("stride", 160.0),
            ("first", 20.0),
        ],
    },
    Case {
        name: "groups_in_slices",
        args: &[
            ("m", 129.0),
            ("n", 68.0),
            ("k", 1056.0),
            ("group", 1056.0),
            ("x_group", 32.0),
            ("short_scales", 1.0),
            ("slices", 4.0),
            ("epilogue", 2.0),
        ],
    },
    Case {
        name: "groups_of_96_in_slices",
        args: &[("m", 140.0), ("n", 36.0), ("k", 544.0), ("x_group", 96.0), ("short_scales", 1.0), ("slices", 3.0)],
    },
    Case {
        name: "columns_of_groups",
        args: &[
            ("m", 128.0),
            ("n", 4.0),
            ("k", 2048.0),
            ("x_group", 1024.0),
            ("short_scales", 1.0),
            ("stride", 32.0),
            ("first", 20.0),
        ],
    },
    Case {
        name: "blocks_at_2_to_the_24_of_50_rows",
        args: &[("m", 50.0), ("n", 3.0), ("k", 2048.0), ("group", 1024.0), ("corners", 2.0)],
    },
    Case {
        name: "blocks_x_groups_of_32",
        args: &[("m", 51.0), ("n", 70.0), ("k", 160.0), ("x_group", 32.0), ("epilogue", 1.0)],
    },
    Case { name: "blocks_x_groups_of_64", args: &[("m", 90.0), ("n", 33.0), ("k", 320.0), ("x_group", 64.0)] },
    Case { name: "blocks_corners", args: &[("m", 49.0), ("n", 70.0), ("k", 96.0), ("group", 32.0), ("corners", 1.0)] },
    Case { name: "few_two_rows", args: &[("m", 2.0), ("n", 37.0), ("k", 2080.0), ("epilogue", 2.0)] },
    Case { name: "few_fill_a_tile", args: &[("m", 8.0), ("n", 64.0), ("k", 2048.0), ("group", 128.0)] },
    Case { name: "few_x_groups", args: &[("m", 3.0), ("n", 17.0), ("k", 96.0), ("x_group", 32.0), ("epilogue", 1.0)] },
    Case { name: "few_top_of_int32", args: &[("m", 5.0), ("n", 3.0), ("k", 131040.0), ("corners", 2.0)] },
    Case { name: "tiles_of_33", args: &[("m", 33.0), ("n", 68.0), ("k", 1040.0), ("epilogue", 1.0)] },
    Case { name: "tiles_filled_by_halves", args: &[("m", 16.0), ("n", 32.0), ("k", 1280.0), ("epilogue", 2.0)] },
    Case {
        name: "batch_past_a_tile",
        args: &[("m", 9.0), ("n", 17.0), ("k", 96.0), ("x_group", 32.0), ("epilogue", 1.0)],
    },
    Case { name: "tiles_of_48", args: &[("m", 48.0), ("n", 36.0), ("k", 384.0), ("epilogue", 2.0)] },
    Case { name: "tiles_of_17_short", args: &[("m", 17.0), ("n", 8.0), ("k", 16.0)] },
    Case { name: "tiles_of_40_at_the_corners", args: &[("m", 40.0), ("n", 72.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "tiles_of_49_short", args: &[("m", 49.0), ("n", 8.0), ("k", 16.0)] },
    Case { name: "tiles_of_64", args: &[("m", 64.0), ("n", 32.0), ("k", 1280.0), ("epilogue", 2.0)] },
    Case { name: "tiles_of_65", args: &[("m", 65.0), ("n", 68.0), ("k", 1040.0), ("epilogue", 1.0)] },
    Case { name: "tiles_at_the_corners", args: &[("m", 70.0), ("n", 72.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "tiles_of_100", args: &[("m", 100.0), ("n", 40.0), ("k", 160.0)] },
    Case { name: "tiles_of_127", args: &[("m", 127.0), ("n", 36.0), ("k", 384.0), ("epilogue", 2.0)] },
    Case { name: "batch_of_41", args: &[("m", 41.0), ("n", 34.0), ("k", 160.0), ("x_group", 32.0), ("epilogue", 2.0)] },
    Case { name: "tiles_of_30_at_the_corners", args: &[("m", 30.0), ("n", 72.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "tiles_of_32", args: &[("m", 32.0), ("n", 68.0), ("k", 1040.0), ("epilogue", 1.0)] },
    // More of the weight than one tile.
    Case { name: "wide_tiles_of_9_short", args: &[("m", 9.0), ("n", 132.0), ("k", 16.0)] },
    Case { name: "wide_tiles_of_16", args: &[("m", 16.0), ("n", 132.0), ("k", 528.0), ("epilogue", 2.0)] },
    Case { name: "wide_tiles_of_20", args: &[("m", 20.0), ("n", 100.0), ("k", 272.0), ("epilogue", 1.0)] },
    Case { name: "wide_tiles_of_31_at_the_corners", args: &[("m", 31.0), ("n", 96.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "wide_tiles_of_32", args: &[("m", 32.0), ("n", 128.0), ("k", 256.0)] },
    Case {
        name: "columns_of_wide_tiles",
        args: &[("m", 17.0), ("n", 136.0), ("k", 96.0), ("stride", 160.0), ("first", 20.0)],
    },
    Case { name: "wide_tiles_of_33_short", args: &[("m", 33.0), ("n", 132.0), ("k", 16.0)] },
    Case { name: "wide_tiles_of_66", args: &[("m", 66.0), ("n", 132.0), ("k", 1040.0)] },
    Case { name: "wide_tiles_of_68_at_the_corners", args: &[("m", 68.0), ("n", 96.0), ("k", 64.0), ("corners", 1.0)] },
    Case {
        name: "columns_of_wide_tiles_of_65",
        args: &[("m", 65.0), ("n", 136.0), ("k", 96.0), ("stride", 160.0), ("first", 20.0)],
    },
    Case { name: "wide_tiles_of_70", args: &[("m", 70.0), ("n", 132.0), ("k", 528.0), ("epilogue", 2.0)] },
    Case { name: "wide_tiles_of_127", args: &[("m", 127.0), ("n", 76.0), ("k", 96.0), ("epilogue", 1.0)] },
    Case {
        name: "tiles_of_groups_of_tokens",
        args: &[("m", 65.0), ("n", 68.0), ("k", 1056.0), ("x_group", 32.0), ("short_scales", 1.0), ("epilogue", 1.0)],
    },
    Case {
        name: "tiles_of_groups_of_33_tokens",
        args: &[("m", 33.0), ("n", 40.0), ("k", 288.0), ("x_group", 32.0), ("short_scales", 1.0)],
    },
    Case {
        name: "tiles_of_groups_of_128_at_the_corners",
        args: &[("m", 30.0), ("n", 72.0), ("k", 320.0), ("x_group", 128.0), ("short_scales", 1.0), ("corners", 1.0)],
    },
    Case {
        name: "tiles_of_two_groups_of_tokens",
        args: &[("m", 64.0), ("n", 40.0), ("k", 64.0), ("x_group", 32.0), ("short_scales", 1.0)],
    },
    Case {
        name: "wide_tiles_of_groups_of_20_tokens",
        args: &[("m", 20.0), ("n", 100.0), ("k", 288.0), ("x_group", 32.0), ("short_scales", 1.0), ("epilogue", 1.0)],
    },
    Case {
        name: "wide_tiles_of_groups_of_70_tokens",
        args: &[("m", 70.0), ("n", 132.0), ("k", 544.0), ("x_group", 32.0), ("short_scales", 1.0), ("epilogue", 2.0)],
    },
    Case {
        name: "tiles_of_groups_of_the_weight",
        args: &[("m", 20.0), ("n", 36.0), ("k", 544.0), ("group", 96.0), ("short_scales", 1.0), ("epilogue", 2.0)],
    },
    Case {
        name: "tiles_of_groups_of_both",
        args: &[
            ("m", 33.0),
            ("n", 68.0),
            ("k", 1056.0),
            ("group", 32.0),
            ("x_group", 32.0),
            ("short_scales", 1.0),
            ("epilogue", 1.0),
        ],
    },
    Case {
        name: "wide_tiles_of_groups_of_both",
        args: &[("m", 17.0), ("n", 100.0), ("k", 288.0), ("group", 96.0), ("x_group", 32.0), ("short_scales", 1.0)],
    },
    Case {
        name: "wide_tiles_of_groups_of_the_weight",
        args: &[("m", 70.0), ("n", 132.0), ("k", 320.0), ("group", 64.0), ("short_scales", 1.0), ("epilogue", 2.0)],
    },
    Case { name: "tiles_of_13_at_the_corners", args: &[("m", 13.0), ("n", 72.0), ("k", 64.0), ("corners", 1.0)] },
    Case {
        name: "columns_of_tiles_of_12",
        args: &[("m", 12.0), ("n", 68.0), ("k", 160.0), ("epilogue", 1.0), ("stride", 100.0), ("first", 20.0)],
    },
    Case {
        name: "tiles_of_groups_of_15_tokens",
        args: &[
            ("m", 15.0),
            ("n", 68.0),
            ("k", 1056.0),
            ("group", 96.0),
            ("x_group", 32.0),
            ("short_scales", 1.0),
            ("epilogue", 1.0),
        ],
    },
    // Slices of 512 columns and more, the last of fewer.
    Case {
        name: "tiles_of_9_in_slices",
        args: &[("m", 9.0), ("n", 132.0), ("k", 1312.0), ("slices", 3.0), ("epilogue", 2.0)],
    },
    Case {
        name: "tiles_of_groups_of_16_tokens_in_slices",
        args: &[
            ("m", 16.0),
            ("n", 68.0),
            ("k", 1056.0),
            ("group", 32.0),
            ("x_group", 96.0),
            ("short_scales", 1.0),
            ("slices", 3.0),
            ("epilogue", 1.0),
        ],
    },
    Case {
        name: "columns_of_tiles_of_20_in_slices",
        args: &[
            ("m", 20.0),
            ("n", 68.0),
            ("k", 576.0),
            ("x_group", 32.0),
            ("short_scales", 1.0),
            ("slices", 2.0),
            ("stride", 100.0),
            ("first", 20.0),
        ],
    },
    Case {
        name: "tiles_of_66_in_slices",
        args: &[("m", 66.0), ("n", 68.0), ("k", 528.0), ("slices", 2.0), ("epilogue", 2.0)],
    },
    // A scale a row of the weight that bf16 holds, in every format that has none of these above.
    Case { name: "bf16_scales_any", args: &[("m", 13.0), ("n", 67.0), ("k", 31.0), ("bf16_scales", 1.0)] },
    Case { name: "bf16_scales_of_few", args: &[("m", 3.0), ("n", 37.0), ("k", 160.0), ("bf16_scales", 1.0)] },
    Case { name: "bf16_scales_of_a_batch", args: &[("m", 20.0), ("n", 37.0), ("k", 160.0), ("bf16_scales", 1.0)] },
    Case { name: "bf16_scales_of_blocks", args: &[("m", 50.0), ("n", 37.0), ("k", 64.0), ("bf16_scales", 1.0)] },
    Case { name: "bf16_scales_of_tiles", args: &[("m", 20.0), ("n", 68.0), ("k", 160.0), ("bf16_scales", 1.0)] },
    Case { name: "bf16_scales_of_rows", args: &[("m", 130.0), ("n", 68.0), ("k", 160.0), ("bf16_scales", 1.0)] },
    Case {
        name: "tiles_of_a_ragged_group",
        args: &[("m", 12.0), ("n", 68.0), ("k", 544.0), ("group", 96.0), ("x_group", 96.0), ("short_scales", 1.0)],
    },
    Case {
        name: "wide_tiles_of_a_ragged_group",
        args: &[("m", 70.0), ("n", 132.0), ("k", 544.0), ("group", 96.0), ("x_group", 32.0), ("short_scales", 1.0)],
    },
    // docs/driver-faults.md: wgpu #7494 and #7574 (packed dot products), burn #4355.
    Case { name: "dp4a_minus_128_corners", args: &[("m", 9.0), ("n", 70.0), ("k", 64.0), ("corners", 1.0)] },
    Case { name: "dp4a_top_of_int32", args: &[("m", 2.0), ("n", 3.0), ("k", 131_068.0), ("corners", 2.0)] },
    Case { name: "vega_257x1152x384", args: &[("m", 257.0), ("n", 1152.0), ("k", 384.0)] },
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let case = CaseOf::new(a);
    let [codes, scales, weight, weight_scales] = case.quantized(s, 8)?;
    let out = case.out(s)?;
    let x = Scaled { codes: &codes, scales: &scales, group: case.x_group };
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: case.group };
    let room = case.room(s)?;
    matmul_w8a8(s.plan(), x, weight, case.scale_bits, case.columns(&out)?, case.epilogue, case.split(room.as_ref()))
}

fn work(a: &Args) -> Work {
    CaseOf::new(a).work(8, 8)
}
