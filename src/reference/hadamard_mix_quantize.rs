//! A whole Hadamard transform, a dense factor and Sylvester's of 256, and int8 codes of what it gives, in f32 in between.
//! Ashkboos et al. 2024, arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard_whole::hadamard_whole;
use super::quantize_tokens::quantize_rows;
use crate::shaders::{hadamard_mix_quantize::Params, hadamard_whole};

/// `x`: `[rows, 256 order]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1 for -1; `codes`: `[rows,
/// 256 order]` int8; `scales`: `[rows, groups]`.
pub fn hadamard_mix_quantize(p: &Params, x: &[f32], signs: &[u32], codes: &mut [u32], scales: &mut [f32]) {
    let mut rotated = vec![0.0; x.len()];
    hadamard_whole(&hadamard_whole::Params { rows: p.rows, order: p.order, unit: p.unit }, x, signs, &mut rotated);
    quantize_rows(&rotated, 256 * p.order as usize, p.group as usize, codes, scales);
}
