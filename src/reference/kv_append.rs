//! Rows `cursor..` of each sequence's caches = its rows of `k` and `v`, as f32, f16 or codes ([`super::kv`]); rows that do not fit are
//! dropped.

use super::kv::KvCodes;
use crate::shaders::kv_append::{Format, Params};

/// `k`, `v`: `[sequences · tokens, stride]`, of which `kv_heads · head_dim` columns from an offset on; `cursor`: `[sequences]`; `k_cache`, `v_cache`:
/// `[sequences · max, kv_heads · head_dim]` f32, or codes and scales of as many.
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
    let width = kv_heads * head_dim;
    let rows = (p.sequences * p.max) as usize * kv_heads;
    for (x, [offset, stride], cache) in [(k, [p.k_offset, p.k_stride], k_cache), (v, [p.v_offset, p.v_stride], v_cache)]
    {
        let x: Vec<f32> =
            x.chunks(stride as usize).flat_map(|row| row[offset as usize..][..width].iter().copied()).collect();
        for (sequence, (x, cursor)) in x.chunks(p.tokens as usize * width).zip(cursor).enumerate() {
            let before = (*cursor).min(p.max);
            let x = &x[..p.tokens.min(p.max - before) as usize * width];
            let row = (sequence * p.max as usize + before as usize) * kv_heads;
            let bits = match format {
                Format::F32 => {
                    cache[row * head_dim..][..x.len()].copy_from_slice(bytemuck::cast_slice(x));
                    continue;
                }
                Format::Half => 16,
                Format::Int8 => 8,
                Format::Int4 => 4,
            };
            KvCodes { bits, head_dim }.store(x, cache, rows, row);
        }
    }
}
