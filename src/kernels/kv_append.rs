//! Appends keys and values to their caches.

use super::attention::AttentionDims;
use super::bindings::kv_append::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::kv_cache::{KvCache, KvFormat};
use super::{Columns, expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::kv_append::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "kv_append";

/// Rows `cursor..cursor + tokens` of each sequence's caches = its rows of `k` and `v`, f32, or rounded to f16 (ties to even, finite numbers beyond its
/// range to its last), or to codes: for each scale's
/// elements `scale = max|x| / top`, `code = round(x / scale)`, ties to even, within ±top, top = 127 or 7. Elements that
/// are all below 1e-35 have scale 1 and codes 0. A value that is not finite spoils the elements that share its scale,
/// and no others. QServe, Lin et al. 2024, arXiv:2405.04532, keeps 4-bit caches with scales a head likewise.
///
/// `k`, `v`: `[sequences · tokens, kv_heads · head_dim]` f32, sequence by sequence, columns of wider tensors perhaps; `cursor`: `[sequences]` u32. Other rows of the caches stay. Rows that do not
/// fit are dropped: the cursor lives on the device, so the runtime checks room before it launches.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn kv_append<'a>(
    plan: &mut Plan,
    k: impl Into<Columns<'a>>,
    v: impl Into<Columns<'a>>,
    cursor: &DeviceTensor,
    cache: &KvCache,
    dims: AttentionDims,
) -> Result<()> {
    dims.check(NAME)?;
    let (k, v) = (k.into(), v.into());
    let (rows, width) = (k.tensor.shape.rows(), dims.kv_heads * dims.head_dim);
    let tokens = cache.check(NAME, dims, rows)?;
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [cache.sequences])?;
    k.expect(NAME, "k", [rows, width])?;
    v.expect(NAME, "v", [rows, width])?;
    let params = Params {
        sequences: cache.sequences as u32,
        tokens: tokens as u32,
        kv_heads: dims.kv_heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
        k_offset: k.offset as u32,
        k_stride: k.stride() as u32,
        v_offset: v.offset as u32,
        v_stride: v.stride() as u32,
    };
    let (format, grid) = match cache.format {
        KvFormat::F32 => (Format::F32, Grid::cover(rows * width, 256)),
        KvFormat::F16 => (Format::Half, Grid::cover(rows * dims.kv_heads * dims.head_dim.div_ceil(2), 256)),
        KvFormat::Int8 => (Format::Int8, Grid::linear(2 * rows * dims.kv_heads)),
        KvFormat::Int4 => (Format::Int4, Grid::linear(2 * rows * dims.kv_heads)),
    };
    let (k, v, k_cache, v_cache) = (k.tensor, v.tensor, &cache.key, &cache.value);
    launch(plan, format, params, Bindings { k, v, cursor, k_cache, v_cache }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, $tokens:expr, $of:expr, $cursor:expr, $max:expr, $size:expr $(, $sequences:expr, $stride:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("tokens", $tokens),
                ("kv_heads", $of[0]),
                ("head_dim", $of[1]),
                ("cursor", $cursor),
                ("max", $max),
                ("size", $size),
                $(("sequences", $sequences), ("stride", $stride),)?
            ],
        }
    };
}

/// Every 61st value is an outlier. Of several sequences each has its cursor `stride` behind the one before.
const CASES: &[Case] = &[
    case!("nano_prompt", 32.0, 37.0, [2.0, 32.0], 0.0, 40.0, 1.0),
    case!("one_token", 32.0, 1.0, [2.0, 32.0], 17.0, 40.0, 1.0),
    case!("fills_the_cache", 32.0, 5.0, [3.0, 11.0], 6.0, 11.0, 1.0),
    case!("overfull_rows_dropped", 32.0, 5.0, [3.0, 11.0], 8.0, 11.0, 1.0),
    case!("cursor_past_the_end", 32.0, 2.0, [1.0, 8.0], 12.0, 11.0, 1.0),
    case!("half_nano_prompt", 16.0, 37.0, [2.0, 32.0], 0.0, 40.0, 1.0),
    case!("half_one_token_of_8b", 16.0, 1.0, [8.0, 128.0], 17.0, 40.0, 1.0),
    case!("half_odd_head_dim_overfull", 16.0, 5.0, [3.0, 37.0], 8.0, 11.0, 1.0),
    case!("half_one_element_heads", 16.0, 3.0, [2.0, 1.0], 0.0, 3.0, 1.0),
    case!("half_cursor_past_the_end", 16.0, 2.0, [1.0, 8.0], 12.0, 11.0, 1.0),
    case!("half_beyond_its_range", 16.0, 3.0, [2.0, 64.0], 1.0, 6.0, 4e4),
    case!("half_subnormals", 16.0, 3.0, [2.0, 64.0], 1.0, 6.0, 1e-6),
    case!("half_below_its_range", 16.0, 3.0, [2.0, 64.0], 1.0, 6.0, 1e-8),
    case!("half_three_sequences", 16.0, 1.0, [2.0, 36.0], 3.0, 10.0, 1.0, 3.0, 2.0),
    case!("half_sequences_of_two_tokens_overfull", 16.0, 2.0, [3.0, 11.0], 3.0, 8.0, 1.0, 3.0, 2.0),
    case!("int8_nano_prompt", 8.0, 37.0, [2.0, 32.0], 0.0, 40.0, 1.0),
    case!("int8_one_token_of_8b", 8.0, 1.0, [8.0, 128.0], 17.0, 40.0, 1.0),
    case!("int8_odd_head_dim_overfull", 8.0, 5.0, [3.0, 37.0], 8.0, 11.0, 1.0),
    case!("int8_widest_head", 8.0, 3.0, [2.0, 256.0], 2.0, 6.0, 1.0),
    case!("int8_cursor_past_the_end", 8.0, 2.0, [1.0, 8.0], 12.0, 11.0, 1.0),
    case!("int8_tiny_values", 8.0, 4.0, [2.0, 16.0], 1.0, 6.0, 1e-30),
    case!("int8_below_the_smallest_scale", 8.0, 4.0, [2.0, 16.0], 1.0, 6.0, 1e-37),
    case!("int4_nano_prompt", 4.0, 37.0, [2.0, 32.0], 0.0, 40.0, 1.0),
    case!("int4_one_token_of_8b", 4.0, 1.0, [8.0, 128.0], 17.0, 40.0, 1.0),
    case!("int4_ragged_group_overfull", 4.0, 5.0, [3.0, 77.0], 8.0, 11.0, 1.0),
    case!("int4_widest_head", 4.0, 3.0, [2.0, 256.0], 2.0, 6.0, 1.0),
    case!("int4_one_element_heads", 4.0, 3.0, [2.0, 1.0], 0.0, 3.0, 1.0),
    case!("int4_below_the_smallest_scale", 4.0, 4.0, [2.0, 40.0], 1.0, 6.0, 1e-37),
    case!("three_sequences", 32.0, 1.0, [2.0, 32.0], 3.0, 10.0, 1.0, 3.0, 2.0),
    case!("sequences_of_two_tokens_overfull", 32.0, 2.0, [3.0, 11.0], 3.0, 8.0, 1.0, 3.0, 2.0),
    case!("int8_three_sequences", 8.0, 1.0, [2.0, 36.0], 3.0, 10.0, 1.0, 3.0, 2.0),
    case!("int8_sequences_of_two_tokens_overfull", 8.0, 2.0, [3.0, 11.0], 3.0, 8.0, 1.0, 3.0, 2.0),
    case!("int4_sequences_of_two_tokens_overfull", 4.0, 2.0, [3.0, 77.0], 3.0, 8.0, 1.0, 3.0, 2.0),
];

/// A cache's format of a case's `bits`.
pub(super) fn format_of(a: &Args) -> KvFormat {
    match a.get("bits") {
        Some(16.0) => KvFormat::F16,
        Some(8.0) => KvFormat::Int8,
        Some(4.0) => KvFormat::Int4,
        _ => KvFormat::F32,
    }
}

/// The sequences of a case, and the cursor of each.
pub(super) fn cursors_of(a: &Args) -> Vec<u32> {
    let sequences = a.get("sequences").unwrap_or(1.0) as u32;
    let stride = a.get("stride").unwrap_or(0.0) as u32;
    (0..sequences).map(|s| a.usize("cursor") as u32 + s * stride).collect()
}

/// The words of a cache that holds `x`, `[max, kv_heads · head_dim]`.
pub(super) fn words_of(x: &[f32], dims: AttentionDims, format: KvFormat) -> Vec<u32> {
    let Some(codes) = format.codes(dims.head_dim) else { return bytemuck::cast_slice(x).to_vec() };
    let rows = x.len() / dims.head_dim;
    let mut words = vec![0; rows * (codes.words() + codes.groups())];
    codes.store(x, &mut words, rows, 0);
    words
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (tokens, max, format) = (a.usize("tokens"), a.usize("max"), format_of(a));
    let dims =
        AttentionDims { heads: a.usize("kv_heads"), kv_heads: a.usize("kv_heads"), head_dim: a.usize("head_dim") };
    let cursors = cursors_of(a);
    let (sequences, width) = (cursors.len(), dims.kv_heads * dims.head_dim);
    let rows = sequences * max * dims.kv_heads;
    // Columns before and after keys and values, as of one product for both; more before values.
    let [before, after] = [5, 3];
    let mut input = |before: usize| {
        let all = before + width + after;
        let values = s.values(sequences * tokens * all, Fill::Outliers);
        let values: Vec<f32> = values.iter().map(|v| v * a.f64("size") as f32).collect();
        s.device().upload_f32([sequences * tokens, all], &values)
    };
    let (k, v) = (input(before)?, input(2 * before)?);
    let cursor = s.device().upload_words(DType::U32, [sequences], &cursors)?;
    let mut cache = |name| {
        let values = s.values(sequences * max * width, Fill::Normal(1.0));
        let (dtype, row) = format.row(dims);
        let words = words_of(&values, dims, format);
        match format.codes(dims.head_dim) {
            None => s.state_of(name, [sequences * max, row], &values),
            // Compared bit by bit: how f16 are rounded is left to no driver.
            Some(_) if format == KvFormat::F16 => {
                s.state_parts(name, dtype, [sequences * max, row], &[(dtype, [sequences * max, row].into())], &words)
            }
            Some(codes) => {
                let stored = if codes.bits == 8 { DType::I8 } else { DType::I4 };
                let parts = [(stored, [rows, dims.head_dim].into()), (DType::F32, [rows, codes.groups()].into())];
                s.state_parts(name, dtype, [sequences * max, row], &parts, &words)
            }
        }
    };
    let cache = KvCache { key: cache("k_cache")?, value: cache("v_cache")?, sequences, format };
    let (k, v) = (Columns::new(NAME, &k, before, width)?, Columns::new(NAME, &v, 2 * before, width)?);
    kv_append(s.plan(), k, v, &cursor, &cache, dims)
}

fn work(a: &Args) -> Work {
    let values = 2 * cursors_of(a).len() * a.usize("tokens") * a.usize("kv_heads") * a.usize("head_dim");
    Work { bytes: values * (32 + a.usize("bits")) / 8, ops: if format_of(a) == KvFormat::F32 { 0 } else { 5 * values } }
}
