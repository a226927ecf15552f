//! A whole Hadamard transform, a dense factor and Sylvester's of 256. Ashkboos et al. 2024, arXiv:2404.00456.

use super::hadamard::runs;
use super::hadamard_mix::hadamard_mix;
use crate::shaders::{hadamard, hadamard_mix, hadamard_whole::Params};

/// `x`, `out`: `[rows, 256 order]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1 for -1.
pub fn hadamard_whole(p: &Params, x: &[f32], signs: &[u32], out: &mut [f32]) {
    let mix = hadamard_mix::Params { count: x.len() as u32, order: p.order, stride: 256, scale: 1.0 };
    let mut mixed = vec![0.0; x.len()];
    hadamard_mix(&mix, hadamard_mix::Format::Any, x, signs, &mut mixed);
    runs(&hadamard::Params { count: x.len() as u32, log_run: 8, scale: p.unit }, &mixed, out);
}
