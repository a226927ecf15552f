//! A whole Hadamard transform, a dense factor and Sylvester's of 256, and int8 codes of what it gives, in f32 in between.
//! Ashkboos et al. 2024, arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard_mix::hadamard_mix;
use super::hadamard_quantize::hadamard_quantize;
use crate::shaders::{hadamard_mix, hadamard_mix_quantize::Params, hadamard_quantize};

/// `x`: `[rows, 256 order]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1 for -1; `codes`: `[rows,
/// 256 order]` int8; `scales`: `[rows]`.
pub fn hadamard_mix_quantize(p: &Params, x: &[f32], signs: &[u32], codes: &mut [u32], scales: &mut [f32]) {
    let mix = hadamard_mix::Params { count: x.len() as u32, order: p.order, stride: 256, scale: 1.0 };
    let mut mixed = vec![0.0; x.len()];
    hadamard_mix(&mix, x, signs, &mut mixed);
    let last = hadamard_quantize::Params { rows: p.rows, cols: 256 * p.order, log_run: 8, unit: p.unit };
    hadamard_quantize(&last, &mixed, codes, scales);
}
