//! A whole Hadamard transform, a dense factor and Sylvester's of 256, and int8 codes of what it gives, in f32 in between.
//! Ashkboos et al. 2024, arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard::runs;
use super::hadamard_mix::hadamard_mix;
use super::quantize_tokens::quantize_rows;
use crate::shaders::{hadamard, hadamard_mix, hadamard_mix_quantize::Params};

/// `x`: `[rows, 256 order]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1 for -1; `codes`: `[rows,
/// 256 order]` int8; `scales`: `[rows, groups]`.
pub fn hadamard_mix_quantize(p: &Params, x: &[f32], signs: &[u32], codes: &mut [u32], scales: &mut [f32]) {
    let mix = hadamard_mix::Params { count: x.len() as u32, order: p.order, stride: 256, scale: 1.0 };
    let mut mixed = vec![0.0; x.len()];
    hadamard_mix(&mix, hadamard_mix::Format::Any, x, signs, &mut mixed);
    let mut rotated = vec![0.0; x.len()];
    runs(&hadamard::Params { count: x.len() as u32, log_run: 8, scale: p.unit }, &mixed, &mut rotated);
    quantize_rows(&rotated, 256 * p.order as usize, p.group as usize, codes, scales);
}
