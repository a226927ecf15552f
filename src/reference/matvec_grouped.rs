//! A product of few tokens in groups of 32 columns.

use super::grouped_rows::{GROUP, Grouped};
use super::made_token::Weight;
use crate::shaders::matvec_grouped::{Format, Params};

/// `codes`: `[tokens, k]` int8; `scales`: `[2, tokens · k / 32]`; `weight`: `[n, k]` int4 or int8; `weight_scales`: `[n, groups]`; `out`: `[tokens, n]`.
pub fn matvec_grouped(
    p: &Params,
    format: Format,
    codes: &[u32],
    scales: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    out: &mut [f32],
) {
    let Params { tokens: _, n, k: cols, group, scale_bits, norm_group, eps } = *p;
    let (bits, epilogue, x_group) = (if format == Format::Int4 { 4 } else { 8 }, 0, GROUP as u32);
    let weight = Weight { n, cols, group, scale_bits, x_group, epilogue, bits, codes: weight, scales: weight_scales };
    Grouped { codes, scales, norm_group, eps }.times(&weight, out);
}
