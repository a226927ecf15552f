//! A Hadamard transform of two factors, and the largest magnitude of each run of what it gives. Ashkboos et al. 2024,
//! arXiv:2404.00456.

use super::hadamard::runs;
use super::hadamard_mix::hadamard_mix;
use crate::shaders::{
    hadamard, hadamard_mix,
    hadamard_runs::{Format, Params},
};

/// `x`, `out`: `[rows, cols]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1 for -1; `maxima`:
/// `[rows, cols / run]`.
pub fn hadamard_runs(p: &Params, _: Format, x: &[f32], signs: &[u32], out: &mut [f32], maxima: &mut [f32]) {
    let (count, run) = (p.rows * p.cols, 1u32 << p.log_run);
    let mut mixed = vec![0.0; x.len()];
    let mix = hadamard_mix::Params { count, order: p.order, stride: run, scale: 1.0 };
    hadamard_mix(&mix, hadamard_mix::Format::Any, x, signs, &mut mixed);
    runs(&hadamard::Params { count, log_run: p.log_run, scale: p.unit }, &mixed, out);
    for (run, largest) in out.chunks_exact(run as usize).zip(maxima) {
        *largest = super::quantize_tokens::largest(run);
    }
}
