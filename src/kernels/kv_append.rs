//! Appends keys and values to their caches.

use super::attention::AttentionDims;
use super::bindings::kv_append::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::kv_cache::{KvCache, KvFormat};
use super::ssd::expect_f32;
use super::{expect, expect_dtype};
use crate::error::Result;
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::kv_append::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "kv_append";

/// Rows `cursor..cursor + tokens` of the caches = rows of `k` and `v`, f32 or rounded to codes: for each scale's
/// elements `scale = max|x| / top`, `code = round(x / scale)`, ties to even, within ±top, top = 127 or 7. Elements that
/// are all below 1e-35 have scale 1 and codes 0. A value that is not finite spoils the elements that share its scale,
/// and no others. QServe, Lin et al. 2024, arXiv:2405.04532, keeps 4-bit caches with scales a head likewise.
///
/// `k`, `v`: `[tokens, kv_heads · head_dim]` f32; `cursor`: `[1]` u32. Other rows of the caches stay. Rows that do not
/// fit are dropped: the cursor lives on the device, so the runtime checks room before it launches.
///
/// # Errors
/// [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Argument`] naming the argument at fault.
pub fn kv_append(
    plan: &mut Plan,
    k: &DeviceTensor,
    v: &DeviceTensor,
    cursor: &DeviceTensor,
    cache: &KvCache,
    dims: AttentionDims,
) -> Result<()> {
    dims.check(NAME)?;
    let (tokens, width) = (k.shape.rows(), dims.kv_heads * dims.head_dim);
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [1])?;
    expect_f32(NAME, &[("k", k, [tokens, width]), ("v", v, [tokens, width])])?;
    cache.check(NAME, dims)?;
    let params = Params {
        tokens: tokens as u32,
        kv_heads: dims.kv_heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
    };
    let (format, grid) = match cache.format {
        KvFormat::F32 => (Format::F32, Grid::cover(tokens * width, 256)),
        KvFormat::Int8 => (Format::Int8, Grid::linear(2 * tokens * dims.kv_heads)),
        KvFormat::Int4 => (Format::Int4, Grid::linear(2 * tokens * dims.kv_heads)),
    };
    launch(plan, format, params, Bindings { k, v, cursor, k_cache: &cache.key, v_cache: &cache.value }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, $tokens:expr, [$kv_heads:expr, $head_dim:expr], $cursor:expr, $max:expr, $size:expr) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("tokens", $tokens),
                ("kv_heads", $kv_heads),
                ("head_dim", $head_dim),
                ("cursor", $cursor),
                ("max", $max),
                ("size", $size),
            ],
        }
    };
}

/// Every 61st value is an outlier.
const CASES: &[Case] = &[
    case!("nano_prompt", 32.0, 37.0, [2.0, 32.0], 0.0, 40.0, 1.0),
    case!("one_token", 32.0, 1.0, [2.0, 32.0], 17.0, 40.0, 1.0),
    case!("fills_the_cache", 32.0, 5.0, [3.0, 11.0], 6.0, 11.0, 1.0),
    case!("overfull_rows_dropped", 32.0, 5.0, [3.0, 11.0], 8.0, 11.0, 1.0),
    case!("cursor_past_the_end", 32.0, 2.0, [1.0, 8.0], 12.0, 11.0, 1.0),
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
];

/// A cache's format of a case's `bits`.
pub(super) fn format_of(a: &Args) -> KvFormat {
    match a.get("bits") {
        Some(8.0) => KvFormat::Int8,
        Some(4.0) => KvFormat::Int4,
        _ => KvFormat::F32,
    }
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
    let (width, rows) = (dims.kv_heads * dims.head_dim, max * dims.kv_heads);
    let mut input = || {
        let values = s.values(tokens * width, Fill::Outliers);
        let values: Vec<f32> = values.iter().map(|v| v * a.f64("size") as f32).collect();
        s.device().upload_f32([tokens, width], &values)
    };
    let (k, v) = (input()?, input()?);
    let cursor = s.device().upload_words(DType::U32, [1], &[a.usize("cursor") as u32])?;
    let mut cache = |name| {
        let values = s.values(max * width, Fill::Normal(1.0));
        let (dtype, row) = format.row(dims);
        let words = words_of(&values, dims, format);
        match format.codes(dims.head_dim) {
            None => s.state_of(name, [max, row], &values),
            Some(codes) => {
                let stored = if codes.bits == 8 { DType::I8 } else { DType::I4 };
                let parts = [(stored, [rows, dims.head_dim].into()), (DType::F32, [rows, codes.groups()].into())];
                s.state_parts(name, dtype, [max, row], &parts, &words)
            }
        }
    };
    let cache = KvCache { key: cache("k_cache")?, value: cache("v_cache")?, format };
    kv_append(s.plan(), &k, &v, &cursor, &cache, dims)
}

fn work(a: &Args) -> Work {
    let values = 2 * a.usize("tokens") * a.usize("kv_heads") * a.usize("head_dim");
    Work { bytes: values * (32 + a.usize("bits")) / 8, ops: if format_of(a) == KvFormat::F32 { 0 } else { 5 * values } }
}
