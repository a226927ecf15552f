//! `totals += aᵀ b` of numbers cut into two f16 each.

use half::f16;

use super::gram::gram;
use crate::shaders::{gram as of_floats, gram_halves::Params};

/// `a`: `[2, tokens, n]` f16 with scales `[n]`; `b`: `[2, tokens, m]` with scales `[m]`; `totals` and what they `lost`: `[n, m]`.
pub fn gram_halves(
    p: &Params,
    a: &[u32],
    a_scales: &[f32],
    b: &[u32],
    b_scales: &[f32],
    totals: &mut [f32],
    lost: &mut [f32],
) {
    let Params { tokens, n, m, upper, zero } = *p;
    let (a, b) = (numbers(a, a_scales), numbers(b, b_scales));
    gram(&of_floats::Params { tokens, n, m, upper, zero }, &a, &b, totals, lost);
}

/// The f32 numbers `[tokens, n]`, exactly.
pub(super) fn numbers(halves: &[u32], scales: &[f32]) -> Vec<f32> {
    let half = |e: usize| f16::from_bits((halves[e / 2] >> (16 * (e % 2))) as u16).to_f32();
    (0..halves.len()).map(|e| (half(e) + half(halves.len() + e)) * scales[e % scales.len()]).collect()
}
