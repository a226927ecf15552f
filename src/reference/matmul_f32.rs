//! `out = x · weightᵀ`, then the epilogue; weights stored as f32, f16 or bf16.

use super::dot;
use super::matmul::{float_weight, for_each, widened};
use crate::shaders::matmul_f32::{Format, Params};
use crate::tensor::DType;

/// `x`: `[m, k]`; `weight`: words of `[n, k]`; `out`: `[m, n]`.
pub fn matmul_f32(p: &Params, format: Format, x: &[f32], weight: &[u32], out: &mut [f32]) {
    let (n, k) = (p.n as usize, p.k as usize);
    let dtype = match format {
        Format::WF32 => DType::F32,
        Format::WF16 => DType::F16,
        Format::WBf16 => DType::BF16,
    };
    let (x, weight) = (widened(x), float_weight(weight, k, dtype));
    for_each(p.epilogue, n, out, |i, j| dot(&x[i * k..][..k], &weight[j * k..][..k]));
}
