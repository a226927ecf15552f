//! `out = softmax(scale q·kᵀ) v`, query `t` over cache rows `0..=cursor + t`, query head `j` with kv head
//! `j / (heads / kv_heads)`, each sequence with its own rows. Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023,
//! arXiv:2305.13245.

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

use super::dot;
use super::kv::{KvCodes, values};
use crate::shaders::attention::{Format, Params};

/// Keys and values of all sequences as f32, `[sequences · max, kv_heads · head_dim]`.
pub(super) struct Cached<'a> {
    keys: Cow<'a, [f32]>,
    values: Cow<'a, [f32]>,
    max: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// Scores' exponentials and values of one row over some keys: `total = Σ exp(score - peak)`,
/// `sums = Σ exp(score - peak) v`, `peak` the largest score, -∞ of no keys.
pub(super) struct Softened {
    pub(super) peak: f64,
    pub(super) total: f64,
    pub(super) sums: Vec<f64>,
}

impl<'a> Cached<'a> {
    /// Caches of f32, or of codes and scales ([`super::kv`]), as far as the last sequence's `tokens` after its cursor.
    pub(super) fn new(
        codes: Option<KvCodes>,
        [k_cache, v_cache]: [&'a [u32]; 2],
        (cursor, tokens): (&[u32], u32),
        [max, kv_heads, head_dim]: [u32; 3],
    ) -> Self {
        let last = cursor.last().map_or(0, |c| (c + tokens).min(max)) as usize;
        let (max, kv_heads, head_dim) = (max as usize, kv_heads as usize, head_dim as usize);
        let (rows, seen) = (cursor.len() * max, cursor.len().saturating_sub(1) * max + last);
        let [keys, values] = [k_cache, v_cache].map(|cache| values(codes, cache, rows * kv_heads, seen * kv_heads));
        Self { keys, values, max, kv_heads, head_dim }
    }

    /// The row `q` over `keys` of a sequence's kv head.
    pub(super) fn soften(&self, q: &[f32], scale: f32, sequence: usize, kv: usize, keys: Range<usize>) -> Softened {
        let place = |s: usize| ((sequence * self.max + s) * self.kv_heads + kv) * self.head_dim;
        let row = |s: usize| place(s)..place(s) + self.head_dim;
        let scores: Vec<f64> = keys.clone().map(|s| f64::from(scale) * dot(q, &self.keys[row(s)])).collect();
        let peak = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut sums) = (0.0, vec![0.0f64; self.head_dim]);
        for (s, score) in keys.zip(&scores) {
            let weight = (score - peak).exp();
            total += weight;
            sums.iter_mut().zip(&self.values[row(s)]).for_each(|(sum, v)| *sum += weight * f64::from(*v));
        }
        Softened { peak, total, sums }
    }
}

/// `q`: `[sequences · tokens, q_stride]`, of which `heads · head_dim` columns from `q_offset` on; `out`:
/// `[sequences · tokens, heads · head_dim]`; `k_cache`, `v_cache`: `[sequences · max, kv_heads · head_dim]` f32,
/// or codes and scales of as many ([`super::kv`]); `cursor`: `[sequences]`.
pub fn attention(
    p: &Params,
    format: Format,
    q: &[f32],
    k_cache: &[u32],
    v_cache: &[u32],
    cursor: &[u32],
    out: &mut [f32],
) {
    let (heads, head_dim, tokens) = (p.heads as usize, p.head_dim as usize, p.tokens as usize);
    let codes = match format {
        Format::Quads | Format::Blocks | Format::Scalars => None,
        Format::Half | Format::HalfBlocks | Format::HalfScalars => Some(KvCodes { bits: 16, head_dim }),
        Format::Int8 | Format::Int8Blocks | Format::Int8Scalars => Some(KvCodes { bits: 8, head_dim }),
        Format::Int4 | Format::Int4Scalars => Some(KvCodes { bits: 4, head_dim }),
    };
    let cached = Cached::new(codes, [k_cache, v_cache], (cursor, p.tokens), [p.max, p.kv_heads, p.head_dim]);
    out.par_chunks_mut(head_dim).enumerate().for_each(|(i, out)| {
        let q = &q[p.q_offset as usize + i / heads * p.q_stride as usize + i % heads * head_dim..][..head_dim];
        let (sequence, t, kv) = (i / heads / tokens, i / heads % tokens, i % heads / (heads / p.kv_heads as usize));
        let keys = (cursor[sequence] as usize + t + 1).min(p.max as usize);
        let Softened { total, sums, .. } = cached.soften(q, p.scale, sequence, kv, 0..keys);
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = (sum / total) as f32);
    });
}
