//! Rows `cursor..` of the caches = rows of `k` and `v`, as f32 or as codes ([`super::kv`]); rows that do not fit are
//! dropped.

use super::kv::KvCodes;
use crate::shaders::kv_append::{Format, Params};

/// `k`, `v`: `[tokens, kv_heads · head_dim]`; `cursor`: `[1]`; `k_cache`, `v_cache`: `[max, kv_heads · head_dim]` f32, or
/// codes and scales of as many.
pub fn kv_append(
    p: &Params,
    format: Format,
    k: &[f32],
    v: &[f32],
    cursor: &[u32],
    k_cache: &mut [u32],
    v_cache: &mut [u32],
) {
    let (kv_heads, head_dim) = (p.kv_heads as usize, p.head_dim as usize);
    let first = cursor[0].min(p.max);
    let count = p.tokens.min(p.max - first) as usize * kv_heads * head_dim;
    let (row, rows) = (first as usize * kv_heads, p.max as usize * kv_heads);
    for (x, cache) in [(k, k_cache), (v, v_cache)] {
        let bits = match format {
            Format::F32 => {
                cache[row * head_dim..][..count].copy_from_slice(bytemuck::cast_slice(&x[..count]));
                continue;
            }
            Format::Int8 => 8,
            Format::Int4 => 4,
        };
        KvCodes { bits, head_dim }.store(&x[..count], cache, rows, row);
    }
}
