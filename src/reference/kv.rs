//! Rows of a key/value cache, one a token and kv head: f32, f16, or symmetric codes with a scale for a head (int8) or for 32
//! of its elements (int4). The twin of `shaders/shared/kv_codes.wgsl`.
//!
//! A cache of codes is the code words of all rows (see [`crate::pack`]), then the scales of all rows, f32 as bits. f16 are
//! codes of 16 bits, two a word, the first in its low half, without scales.

use std::borrow::Cow;

use half::f16;

use super::quantize_tokens::quantized;
use crate::pack::{pack_codes, unpack_codes, words_per_row};

/// Elements of an int4 scale.
const INT4_GROUP: usize = 32;

/// How the codes of a head of `head_dim` elements are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCodes {
    /// 16, 8 or 4.
    pub bits: usize,
    /// Elements of a head.
    pub head_dim: usize,
}

impl KvCodes {
    /// Words of codes of a row.
    #[must_use]
    pub fn words(self) -> usize {
        words_per_row(self.bits, self.head_dim)
    }

    /// Elements a scale.
    #[must_use]
    pub fn group(self) -> usize {
        if self.bits == 8 { self.head_dim } else { INT4_GROUP }
    }

    /// Scales of a row.
    #[must_use]
    pub fn groups(self) -> usize {
        if self.bits == 16 { 0 } else { self.head_dim.div_ceil(self.group()) }
    }

    /// Puts the rows of `x` `[n, head_dim]` into a cache of `rows` rows, from row `first` on: for each group
    /// `scale = max|x| / top`, `code = round(x / scale)`, ties to even, within ±top, top = 127 or 7. A group whose
    /// largest value is below 1e-35 has scale 1 and codes 0. f16 are rounded to nearest, ties to even, finite ones beyond
    /// the range to the last in it.
    pub fn store(self, x: &[f32], cache: &mut [u32], rows: usize, first: usize) {
        if self.bits == 16 {
            let words = cache[first * self.words()..].chunks_exact_mut(self.words());
            for (row, words) in x.chunks_exact(self.head_dim).zip(words) {
                let bits = |x: &f32| u32::from(half_of(*x).to_bits());
                let word = |pair: &[f32]| bits(&pair[0]) | pair.get(1).map_or(0, bits) << 16;
                words.iter_mut().zip(row.chunks(2)).for_each(|(to, pair)| *to = word(pair));
            }
            return;
        }
        let top = ((1 << (self.bits - 1)) - 1) as f32;
        let (codes, scales) = cache.split_at_mut(rows * self.words());
        let codes = codes.chunks_exact_mut(self.words());
        let scales = scales.chunks_exact_mut(self.groups());
        for (x, (codes, scales)) in x.chunks_exact(self.head_dim).zip(codes.zip(scales).skip(first)) {
            let mut row = Vec::with_capacity(self.head_dim);
            for (x, bits) in x.chunks(self.group()).zip(scales) {
                let mut scale = 0.0;
                row.extend(quantized(x, top, &mut scale));
                *bits = scale.to_bits();
            }
            codes.copy_from_slice(&pack_codes(self.bits, &row, self.head_dim));
        }
    }

    /// The values of the first `seen` of `rows` rows, `[seen, head_dim]`.
    #[must_use]
    pub fn values(self, cache: &[u32], rows: usize, seen: usize) -> Vec<f32> {
        if self.bits == 16 {
            let halves = |word: &u32| [*word as u16, (*word >> 16) as u16].map(|h| f16::from_bits(h).to_f32());
            let rows = cache.chunks_exact(self.words()).take(seen);
            return rows.flat_map(|row| row.iter().flat_map(halves).take(self.head_dim)).collect();
        }
        let (codes, scales) = cache.split_at(rows * self.words());
        let codes = unpack_codes(self.bits, &codes[..seen * self.words()], self.head_dim);
        let rows = codes.chunks(self.head_dim).zip(scales.chunks(self.groups()));
        rows.flat_map(|(codes, scales)| {
            codes.iter().enumerate().map(|(c, code)| f32::from_bits(scales[c / self.group()]) * f32::from(*code))
        })
        .collect()
    }
}

fn half_of(x: f32) -> f16 {
    f16::from_f32(if x.is_finite() { x.clamp(f16::MIN.to_f32(), f16::MAX.to_f32()) } else { x })
}

/// The values of the first `seen` of `rows` rows of a cache of codes, or of f32 where there are none.
pub(super) fn values(codes: Option<KvCodes>, cache: &[u32], rows: usize, seen: usize) -> Cow<'_, [f32]> {
    match codes {
        None => Cow::Borrowed(bytemuck::cast_slice(cache)),
        Some(codes) => Cow::Owned(codes.values(cache, rows, seen)),
    }
}
