//! `out = x · weightᵀ`, then the epilogue, of numbers cut into f16.

use half::f16;

use super::dot;
use super::gram::TILE;
use super::matmul::{Product, widened};
use crate::shaders::matmul_halves::{Format, Params};

/// `a`: `[2, k, m]` f16, single `[1, k, m]`, with scales `[m]`; `b`: `[2, k, n]`, exact and single `[1, k, n]`, with scales `[n]`; `out`: `[m, stride]`.
pub fn matmul_halves(
    p: &Params,
    format: Format,
    a: &[u32],
    a_scales: &[f32],
    b: &[u32],
    b_scales: &[f32],
    out: &mut [f32],
) {
    let (m, k) = (p.m as usize, p.k as usize);
    let turned = |columns: Vec<f32>, rows: usize| -> Vec<f32> {
        (0..columns.len()).map(|e| columns[e % k * rows + e / k]).collect()
    };
    let (of_x, of_weight) = match format {
        Format::Both => (2, 2),
        Format::Exact => (2, 1),
        Format::Single => (1, 1),
    };
    let (x, weight) = (turned(numbers(of_x, a, a_scales), m), turned(numbers(of_weight, b, b_scales), p.n as usize));
    let product = Product { n: p.n, k: p.k, epilogue: p.epilogue, stride: p.out_stride, first: p.out_first };
    let row = |j: usize, row: &mut [f64]| row.copy_from_slice(&widened(&weight[j * k..][..k]));
    let before = out.to_vec();
    product.run(&widened(&x), row, |_, _, x, w| dot(x, w), out);
    if p.upper == 1 {
        let stride = p.out_stride as usize;
        for (i, (out, before)) in out.chunks_mut(stride).zip(before.chunks(stride)).enumerate() {
            let below = p.out_first as usize..p.out_first as usize + (i / TILE * TILE).min(p.n as usize);
            out[below.clone()].copy_from_slice(&before[below]);
        }
    }
}

/// The f32 numbers `[tokens, n]`, exactly, of so many parts.
fn numbers(parts: usize, halves: &[u32], scales: &[f32]) -> Vec<f32> {
    let half = |e: usize| f16::from_bits((halves[e / 2] >> (16 * (e % 2))) as u16).to_f32();
    let count = 2 * halves.len() / parts;
    let number = |e: usize| (0..parts).map(|part| half(part * count + e)).sum::<f32>();
    (0..count).map(|e| number(e) * scales[e % scales.len()]).collect()
}
