//! Sylvester's transform over runs of columns and int8 codes of what it gives, in f32 in between. Ashkboos et al. 2024,
//! arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard::runs;
use super::quantize_tokens::quantize_rows;
use crate::shaders::hadamard;
use crate::shaders::hadamard_quantize::{Format, Params};
use crate::tensor::unpack_halves;

/// `x`: `[rows, cols]` f32 or f16; `codes`: `[rows, cols]` int8; `scales`: `[rows]`.
pub fn hadamard_quantize(p: &Params, format: Format, x: &[u32], codes: &mut [u32], scales: &mut [f32]) {
    let x = if matches!(format, Format::Halves | Format::Halves4096) {
        unpack_halves(x)
    } else {
        bytemuck::cast_slice(x).to_vec()
    };
    let count = p.rows * p.cols;
    let mut rotated = vec![0.0; count as usize];
    runs(&hadamard::Params { count, log_run: p.log_run, scale: p.unit }, &x[..count as usize], &mut rotated);
    quantize_rows(&rotated, p.cols as usize, p.cols as usize, codes, scales);
}
