//! `out = softmax(scale q·kᵀ) v`, query `t` over cache rows `0..=cursor + t`, query head `j` with kv head
//! `j / (heads / kv_heads)`. Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245.

use rayon::prelude::*;

use super::dot;
use super::kv::{KvCodes, values};
use crate::shaders::attention::{Format, Params};

/// `q`, `out`: `[tokens, heads · head_dim]`; `k_cache`, `v_cache`: `[max, kv_heads · head_dim]` f32, or codes and scales
/// of as many ([`super::kv`]); `cursor`: `[1]`.
pub fn attention(
    p: &Params,
    format: Format,
    q: &[f32],
    k_cache: &[u32],
    v_cache: &[u32],
    cursor: &[u32],
    out: &mut [f32],
) {
    let (heads, kv_heads, head_dim) = (p.heads as usize, p.kv_heads as usize, p.head_dim as usize);
    let codes = match format {
        Format::Quads | Format::Scalars => None,
        Format::Int8 | Format::Int8Scalars => Some(KvCodes { bits: 8, head_dim }),
        Format::Int4 | Format::Int4Scalars => Some(KvCodes { bits: 4, head_dim }),
    };
    let (max, tokens) = (p.max as usize, p.tokens as usize);
    let seen = (cursor[0] as usize + tokens).min(max);
    let (k_cache, v_cache) =
        [k_cache, v_cache].map(|cache| values(codes, cache, max * kv_heads, seen * kv_heads)).into();
    out.par_chunks_mut(head_dim).zip(q.par_chunks(head_dim)).enumerate().for_each(|(i, (out, q))| {
        let (t, kv) = (i / heads, i % heads / (heads / kv_heads));
        let keys = (cursor[0] as usize + t + 1).min(max);
        let scores: Vec<f64> =
            (0..keys).map(|s| f64::from(p.scale) * dot(q, row(&k_cache, s * kv_heads + kv, head_dim))).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        let mut sums = vec![0.0f64; head_dim];
        for (s, score) in scores.iter().enumerate() {
            let weight = (score - top).exp();
            total += weight;
            let v = row(&v_cache, s * kv_heads + kv, head_dim);
            sums.iter_mut().zip(v).for_each(|(sum, v)| *sum += weight * f64::from(*v));
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum / total) as f32);
    });
}

/// Row `at` of rows of `len`.
fn row(values: &[f32], at: usize, len: usize) -> &[f32] {
    &values[at * len..][..len]
}
