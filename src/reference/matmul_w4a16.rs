//! `out = x · (weight · weight_scales)ᵀ` with int4 weights, then the epilogue. Frantar et al. 2022,
//! arXiv:2210.17323.

use super::dot;
use super::matmul::{Product, dequantized_row, scales_of_rows, widened};
use crate::shaders::matmul_w4a16::Params;

/// `x`: `[m, k]`; `weight`: `[n, k]` int4; `weight_scales`: `[n, groups]`; `out`: `[m, n]`.
pub fn matmul_w4a16(p: &Params, x: &[f32], weight: &[u32], weight_scales: &[u32], out: &mut [f32]) {
    let product = Product { n: p.n, k: p.k, epilogue: p.epilogue, stride: p.out_stride, first: p.out_first };
    let weight_scales = &scales_of_rows(weight_scales, p.scale_bits, [p.n as usize, p.k.div_ceil(p.group) as usize]);
    let weight_row = |j: usize, row: &mut [f64]| dequantized_row(weight, weight_scales, p.group as usize, j, row);
    product.run(&widened(x), weight_row, |_, _, x, w| dot(x, w), out);
}
