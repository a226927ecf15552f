//! The Hadamard transform of short runs of columns, and int8 codes with a scale for each 32 of them. Ashkboos et al. 2024,
//! arXiv:2404.00456; Zhao et al. 2023, arXiv:2310.19102.

use super::hadamard::runs;
use super::quantize_tokens::group_codes;
use crate::shaders::{hadamard, hadamard_groups::Params};

/// `x`: `[groups, 32]`; `codes`: the same int8; `scales`: `[groups]`.
pub fn hadamard_groups(p: &Params, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let mut turned = vec![0.0; x.len()];
    runs(&hadamard::Params { count: 32 * p.groups, log_run: p.log_run, scale: p.unit }, x, &mut turned);
    group_codes(&turned, 32, codes, scales);
}
