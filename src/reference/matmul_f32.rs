//! `out = x · weightᵀ`, then the epilogue; weights stored as f32, f16 or bf16.

use super::dot;
use super::matmul::{Product, float_row, widened};
use crate::shaders::matmul_f32::{Format, Params};
use crate::tensor::DType;

/// `x`: `[m, k]`; `weight`: words of `[n, k]`; `out`: `[m, n]`.
pub fn matmul_f32(p: &Params, format: Format, x: &[f32], weight: &[u32], out: &mut [f32]) {
    let dtype = match format {
        Format::WF32 | Format::TiledF32 => DType::F32,
        Format::WF16 | Format::TiledF16 => DType::F16,
        Format::WBf16 | Format::TiledBf16 => DType::BF16,
    };
    let product = Product { n: p.n, k: p.k, epilogue: p.epilogue, stride: p.out_stride, first: p.out_first };
    product.run(&widened(x), |j, row| float_row(dtype, weight, j, row), |_, _, x, w| dot(x, w), out);
}
