//! Rows `cursor..` of the caches = rows of `k` and `v`; rows that do not fit are dropped.

use crate::shaders::kv_append::Params;

/// `k`, `v`: `[tokens, width]`; `cursor`: `[1]`; `k_cache`, `v_cache`: `[max, width]`.
pub fn kv_append(p: &Params, k: &[f32], v: &[f32], cursor: &[u32], k_cache: &mut [f32], v_cache: &mut [f32]) {
    let first = cursor[0].min(p.max);
    let count = (p.tokens.min(p.max - first) * p.width) as usize;
    let at = (first * p.width) as usize;
    k_cache[at..at + count].copy_from_slice(&k[..count]);
    v_cache[at..at + count].copy_from_slice(&v[..count]);
}
