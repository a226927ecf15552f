//! `out = Σ w part / Σ w total` over the splits of a row, `w = exp(peak - largest peak)`: the second half of
//! [`super::attention_split`].

use super::splits::ranges;
use crate::shaders::attention_merge::Params;

/// `parts`: `[sequences · tokens · heads · splits, head_dim]`; `stats`: `[.., 2]`, peak and total; `cursor`: `[sequences]`;
/// `out`: `[sequences · tokens, heads · head_dim]`.
pub fn attention_merge(p: &Params, parts: &[f32], stats: &[f32], cursor: &[u32], out: &mut [f32]) {
    let (head_dim, splits) = (p.head_dim as usize, p.splits as usize);
    for (row, out) in out.chunks_mut(head_dim).enumerate() {
        let sequence = row / (p.tokens * p.heads) as usize;
        let used = ranges((cursor[sequence] + p.tokens).min(p.max) as usize, splits).count();
        let stats = || stats[row * splits * 2..].chunks(2).take(used).map(|s| (f64::from(s[0]), f64::from(s[1])));
        let top = stats().map(|(peak, _)| peak).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = stats().map(|(peak, total)| (peak - top).exp() * total).sum();
        for (c, out) in out.iter_mut().enumerate() {
            let part = |s: usize| f64::from(parts[(row * splits + s) * head_dim + c]);
            let sum: f64 = stats().enumerate().map(|(s, (peak, _))| (peak - top).exp() * part(s)).sum();
            *out = (sum / total) as f32;
        }
    }
}
