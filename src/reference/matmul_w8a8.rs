//! `out[i, j] = Σ_s scales[i, s] · weight_scales[j, s] · Σ_{c in span s} codes[i, c] · weight[j, c]`, the inner sum in
//! int32, then the epilogue; a span is the smaller of the two groups. Xiao et al. 2022, arXiv:2211.10438.

use super::matmul::{IntScales, Product, codes_of_row, scales_of_rows, token_codes};
use crate::shaders::matmul_w8a8::{Format, Params};

/// `codes`: `[m, k]` int8; `scales`: `[m, x_groups]`; `weight`: `[n, k]` int8; `weight_scales`: `[n, groups]`; `out`:
/// `[m, n]`, or that of each slice of columns. The format is about speed only.
pub fn matmul_w8a8(
    p: &Params,
    _format: Format,
    codes: &[u32],
    scales: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    out: &mut [f32],
) {
    let k = p.k as usize;
    let weight_scales = &scales_of_rows(weight_scales, p.scale_bits, [p.n as usize, p.k.div_ceil(p.group) as usize]);
    let product = Product { n: p.n, k: p.k, epilogue: p.epilogue, stride: p.out_stride, first: p.out_first };
    let scales = IntScales { k, group: p.group as usize, x_group: p.x_group as usize, scales, weight_scales };
    let sum = |i: usize, j: usize, x: &[i16], w: &[i16]| scales.dot(i, j, x, w);
    product.run_in_slices(p.slice, &token_codes(codes, k), |j, row| codes_of_row(8, weight, j, row), sum, out);
}
