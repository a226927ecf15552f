//! The Hadamard transform of short runs of columns, and int8 codes with a scale for each 32 of them. Ashkboos et al. 2024,
//! arXiv:2404.00456; Zhao et al. 2023, arXiv:2310.19102.

use super::hadamard::runs;
use super::quantize_tokens::group_codes;
use super::split_k_reduce::split_k_reduce;
use crate::shaders::{hadamard, hadamard_groups::Params, split_k_reduce};

/// `x`: `[max(slices, 1), groups, 32]`; `codes`: the same int8; `scales`: `[groups]`.
pub fn hadamard_groups(p: &Params, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let count = 32 * p.groups as usize;
    let mut squares = vec![0.0; count];
    let x = if p.slices == 0 {
        x
    } else {
        const RELU_SQUARED: u32 = 1;
        let (n, slices) = (32 * p.groups, p.slices);
        let all = split_k_reduce::Params { m: 1, n, slices, epilogue: RELU_SQUARED, out_stride: n, out_first: 0 };
        split_k_reduce(&all, x, &mut squares);
        &squares
    };
    let mut turned = vec![0.0; count];
    runs(&hadamard::Params { count: 32 * p.groups, log_run: p.log_run, scale: p.unit }, x, &mut turned);
    group_codes(&turned, 32, codes, scales);
}
