//! `totals += xᵀ x` of numbers in one f16 each.

use half::f16;

use super::gram::gram;
use crate::shaders::{
    gram as of_floats,
    gram_halves::{Format, Params},
};

/// `x`: `[tokens, n]` f16 with scales `[n]`, given twice; `totals` and what they `lost`: `[n, n]`.
pub fn gram_halves(p: &Params, _: Format, x: &[u32], _: &[u32], scales: &[f32], totals: &mut [f32], lost: &mut [f32]) {
    let Params { tokens, n, zero } = *p;
    let x = numbers(1, x, scales);
    gram(&of_floats::Params { tokens, n, m: n, upper: 1, zero }, &x, &x, totals, lost);
}

/// The f32 numbers `[tokens, n]`, exactly, of so many parts.
pub(super) fn numbers(parts: usize, halves: &[u32], scales: &[f32]) -> Vec<f32> {
    let half = |e: usize| f16::from_bits((halves[e / 2] >> (16 * (e % 2))) as u16).to_f32();
    let count = 2 * halves.len() / parts;
    let number = |e: usize| (0..parts).map(|part| half(part * count + e)).sum::<f32>();
    (0..count).map(|e| number(e) * scales[e % scales.len()]).collect()
}
