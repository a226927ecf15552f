//! Numbers as two f16 each, or one, rows scaled by powers of two and transposed: what products on matrix units are made from.

use half::f16;

use super::matmul::float_row;
use super::split_columns::{cut, scale_of};
use crate::shaders::split_rows::{Format, Params};
use crate::tensor::DType;

/// `x`: words of `[rows, k]`; `halves`: `[parts, k, rows]` f16, first bits and then the rest; `scales`: `[rows]`.
pub fn split_rows(p: &Params, format: Format, x: &[u32], halves: &mut [u32], scales: &mut [f32]) {
    let dtype = match format {
        Format::WF32 => DType::F32,
        Format::WF16 => DType::F16,
        Format::WBf16 => DType::BF16,
    };
    let (rows, k) = (p.rows as usize, p.k as usize);
    halves.fill(0);
    let mut put = |e: usize, value: f32| {
        halves[e / 2] |= u32::from(f16::from_f32(value).to_bits()) << (16 * (e % 2));
    };
    let mut row = vec![0f64; k];
    for (r, scale) in scales.iter_mut().enumerate() {
        float_row(dtype, x, r, &mut row);
        let most = row.iter().fold(0.0f64, |m, v| m.max(v.abs())) as f32;
        let (up, down) = scale_of(most);
        *scale = down;
        for (i, number) in row.iter().map(|v| *v as f32 * up).enumerate() {
            put(i * rows + r, cut(number));
            if p.parts == 2 {
                put((k + i) * rows + r, cut(number - cut(number)));
            }
        }
    }
}
