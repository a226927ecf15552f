//! For each row (token, query head) and each split of its sequence's keys: `peak`, the largest score of the keys that the
//! row sees, `total = Σ exp(score - peak)` and `Σ exp(score - peak) v`; of splits without keys nothing is written.
//! Scores are those of [`super::attention`].

use super::attention::Cached;
use super::kv::KvCodes;
use super::splits::ranges;
use crate::shaders::attention_split::{Format, Params};

/// A peak below every score: of splits whose keys a row does not see.
const LOWEST: f32 = -1e30;

/// `q`: `[sequences · tokens, q_stride]`, of which `heads · head_dim` columns from `q_offset` on; `k_cache`, `v_cache`: `[sequences · max, kv_heads · head_dim]` f32, or codes
/// and scales of as many ([`super::kv`]); `cursor`: `[sequences]`; `parts`: `[sequences · tokens · heads · splits, head_dim]`;
/// `stats`: `[.., 2]`.
#[allow(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn attention_split(
    p: &Params,
    format: Format,
    q: &[f32],
    k_cache: &[u32],
    v_cache: &[u32],
    cursor: &[u32],
    parts: &mut [f32],
    stats: &mut [f32],
) {
    let (tokens, heads, head_dim, splits) =
        (p.tokens as usize, p.heads as usize, p.head_dim as usize, p.splits as usize);
    let codes = match format {
        Format::Quads => None,
        Format::Half => Some(KvCodes { bits: 16, head_dim }),
        Format::Int8 => Some(KvCodes { bits: 8, head_dim }),
        Format::Int4 => Some(KvCodes { bits: 4, head_dim }),
    };
    let cached = Cached::new(codes, [k_cache, v_cache], (cursor, p.tokens), [p.max, p.kv_heads, p.head_dim]);
    let rows = parts.chunks_mut(splits * head_dim).zip(stats.chunks_mut(splits * 2));
    for (i, (parts, stats)) in rows.enumerate() {
        let q = &q[p.q_offset as usize + i / heads * p.q_stride as usize + i % heads * head_dim..][..head_dim];
        let (sequence, t, kv) = (i / heads / tokens, i / heads % tokens, i % heads / (heads / p.kv_heads as usize));
        let before = cursor[sequence] as usize;
        let [seen, all] = [t + 1, tokens].map(|more| (before + more).min(p.max as usize));
        for ((keys, part), stat) in ranges(all, splits).zip(parts.chunks_mut(head_dim)).zip(stats.chunks_mut(2)) {
            let keys = keys.start..keys.end.min(seen);
            let one = cached.soften(q, p.scale, sequence, kv, keys);
            stat.copy_from_slice(&[(one.peak as f32).max(LOWEST), one.total as f32]);
            part.iter_mut().zip(one.sums).for_each(|(part, sum)| *part = sum as f32);
        }
    }
}
