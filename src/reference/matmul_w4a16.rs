//! `out = x · (weight · weight_scales)ᵀ` with int4 weights, then the epilogue. Frantar et al. 2022,
//! arXiv:2210.17323.

use super::dot;
use super::matmul::{dequantized, for_each, widened};
use crate::shaders::matmul_w4a16::Params;

/// `x`: `[m, k]`; `weight`: `[n, k]` int4; `weight_scales`: `[n, groups]`; `out`: `[m, n]`.
pub fn matmul_w4a16(p: &Params, x: &[f32], weight: &[u32], weight_scales: &[f32], out: &mut [f32]) {
    let (n, k) = (p.n as usize, p.k as usize);
    let (x, weight) = (widened(x), dequantized(weight, weight_scales, k, p.group as usize));
    for_each(p.epilogue, n, out, |i, j| dot(&x[i * k..][..k], &weight[j * k..][..k]));
}
