//! Sylvester's transform over runs of columns and int8 codes of what it gives, in f32 in between. Ashkboos et al. 2024,
//! arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard::hadamard;
use super::quantize_tokens::quantize_rows;
use crate::shaders::{hadamard, hadamard_quantize::Params};

/// `x`: `[rows, cols]`; `codes`: `[rows, cols]` int8; `scales`: `[rows]`.
pub fn hadamard_quantize(p: &Params, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let mut rotated = vec![0.0; x.len()];
    hadamard(&hadamard::Params { count: p.rows * p.cols, log_run: p.log_run, scale: p.unit }, x, &mut rotated);
    quantize_rows(&rotated, p.cols as usize, p.cols as usize, codes, scales);
}
