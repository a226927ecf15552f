//! Attention of few rows over many keys: workgroups share a sequence's keys.

use super::attention::{AttentionDims, Inputs, attention, inputs, work as attention_work};
use super::attention_merge::attention_merge;
use super::bindings::attention_split::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::kv_cache::{KvCache, KvFormat};
use super::{Columns, expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{Device, DeviceTensor, Grid, Plan};
use crate::shaders::attention_split::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "attention_split";
/// Rows (token and query head) of one workgroup, all of one kv head.
const ROWS: usize = 4;
/// Workgroups that fill a large GPU; a small one takes them in turn.
const ENOUGH: usize = 256;
/// The shader's, so that no split is always without keys.
const LEAST_KEYS: usize = 16;

/// Where workgroups that share a sequence's keys leave what [`attention_merge`] puts together.
#[derive(Clone, Debug)]
pub struct AttentionParts {
    /// `[tokens · heads · splits, head_dim]`: sums of values.
    pub(super) sums: DeviceTensor,
    /// `[tokens · heads · splits, 2]`: largest score, sum of exponentials.
    pub(super) stats: DeviceTensor,
    /// Workgroups that share the keys of a sequence and kv head.
    pub(super) splits: usize,
}

impl AttentionParts {
    /// For one token of each of `sequences`, whose caches hold up to `max` tokens.
    ///
    /// # Errors
    /// [`Error::Argument`] for `dims` that no kernel can do; otherwise as [`Device::alloc`].
    pub fn new(device: &Device, dims: AttentionDims, sequences: usize, max: usize) -> Result<Self> {
        dims.check(NAME)?;
        let alone = sequences.max(1) * dims.kv_heads * (dims.heads / dims.kv_heads).div_ceil(ROWS);
        // Sequences may differ in length, so that even many of them are split.
        let splits = (ENOUGH / alone).clamp(4, 64).min(max.div_ceil(LEAST_KEYS)).max(1);
        Self::of(device, dims, sequences, splits)
    }

    fn of(device: &Device, dims: AttentionDims, tokens: usize, splits: usize) -> Result<Self> {
        let rows = tokens * dims.heads * splits;
        let sums = device.alloc(DType::F32, [rows, dims.head_dim])?;
        Ok(Self { sums, stats: device.alloc(DType::F32, [rows, 2])?, splits })
    }

    /// Bytes on the device.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.sums.bytes() + self.stats.bytes()
    }

    /// Views for `tokens`, of all sequences.
    pub(super) fn of_tokens(&self, tokens: usize, dims: AttentionDims) -> Result<[DeviceTensor; 2]> {
        let rows = tokens * dims.heads * self.splits;
        Ok([self.sums.view(DType::F32, [rows, dims.head_dim])?, self.stats.view(DType::F32, [rows, 2])?])
    }
}

/// Queries, heads and caches whose rows are whole 16 bytes.
fn format(dims: AttentionDims, cache: &KvCache, q: &Columns<'_>) -> Option<Format> {
    let whole = |n| q.in_quads() && dims.head_dim.is_multiple_of(n) && cache.key.words().is_multiple_of(4);
    match cache.format {
        KvFormat::F32 => whole(4).then_some(Format::Quads),
        KvFormat::F16 => whole(8).then_some(Format::Half),
        KvFormat::Int8 => whole(16).then_some(Format::Int8),
        KvFormat::Int4 => whole(32).then_some(Format::Int4),
    }
}

/// Do [`attention_split`] and what puts its parts together take these queries and this cache? There must be room in `parts`, and heads and
/// rows of the cache must be whole 16 bytes.
#[must_use]
pub fn takes_parts(q: &Columns<'_>, cache: &KvCache, dims: AttentionDims, parts: &AttentionParts) -> bool {
    format(dims, cache, q).is_some() && parts.of_tokens(q.tensor.shape.rows(), dims).is_ok()
}

/// [`attention`] in two launches, for few tokens over many keys: workgroups share the keys of a sequence, and a second
/// kernel puts their results together. Dao et al. 2023, "Flash-Decoding for long-context inference". More tokens than
/// `parts` has room for, and heads or caches whose rows are not whole 16 bytes, go through [`attention`] itself.
///
/// # Errors
/// As [`attention`].
pub fn attention_in_parts<'a>(
    plan: &mut Plan,
    q: impl Into<Columns<'a>>,
    cache: &KvCache,
    cursor: &DeviceTensor,
    out: &DeviceTensor,
    dims: AttentionDims,
    parts: &AttentionParts,
) -> Result<()> {
    let q = q.into();
    if !takes_parts(&q, cache, dims, parts) {
        return attention(plan, q, cache, cursor, out, dims);
    }
    attention_split(plan, q, cache, cursor, parts, dims)?;
    attention_merge(plan, parts, cache, cursor, out, dims)
}

/// For each row (token, query head) and each of `parts`' splits of its sequence's keys: the largest score, the sum of
/// `exp(score - largest)`, and of that times the values. Scores, `q`, `cache` and `cursor` as of [`attention`]. A split takes
/// 16 keys or more; those without keys write nothing.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault; rows that are not whole 16 bytes
/// are refused.
pub fn attention_split<'a>(
    plan: &mut Plan,
    q: impl Into<Columns<'a>>,
    cache: &KvCache,
    cursor: &DeviceTensor,
    parts: &AttentionParts,
    dims: AttentionDims,
) -> Result<()> {
    dims.check(NAME)?;
    let q = q.into();
    let rows = q.tensor.shape.rows();
    let tokens = cache.check(NAME, dims, rows)?;
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [cache.sequences])?;
    q.expect(NAME, "q", [rows, dims.heads * dims.head_dim])?;
    let Some(format) = format(dims, cache, &q) else {
        let reason = format!("rows of {:?} {dims:?} are not whole 16 bytes", cache.format);
        return Err(Error::argument(format!("{NAME}: `cache`"), reason));
    };
    let [sums, stats] = parts.of_tokens(rows, dims)?;
    let params = Params {
        sequences: cache.sequences as u32,
        tokens: tokens as u32,
        heads: dims.heads as u32,
        kv_heads: dims.kv_heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
        splits: parts.splits as u32,
        q_offset: q.offset as u32,
        q_stride: q.stride() as u32,
        scale: (dims.head_dim as f32).sqrt().recip(),
    };
    let blocks = (tokens * (dims.heads / dims.kv_heads)).div_ceil(ROWS);
    let grid = Grid::linear(cache.sequences * dims.kv_heads * parts.splits * blocks);
    let KvCache { key: k_cache, value: v_cache, .. } = cache;
    launch(plan, format, params, Bindings { q: q.tensor, k_cache, v_cache, cursor, parts: &sums, stats: &stats }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, [$tokens:expr, $cursor:expr, $max:expr], $of:expr, $splits:expr $(, $sd:expr, $sequences:expr, $before:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("bits", $bits),
                ("tokens", $tokens),
                ("cursor", $cursor),
                ("max", $max),
                ("heads", $of[0]),
                ("kv_heads", $of[1]),
                ("head_dim", $of[2]),
                ("splits", $splits),
                ("stride", 34.0),
                $(("sd", $sd), ("sequences", $sequences), ("before", $before),)?
            ],
        }
    };
}
pub(super) use case;

const CASES: &[Case] = &[
    case!("one_key", 32.0, [1.0, 0.0, 4.0], [4.0, 1.0, 32.0], 1.0),
    case!("one_key_of_many", 32.0, [1.0, 0.0, 400.0], [4.0, 2.0, 32.0], 8.0),
    case!("31_keys", 32.0, [1.0, 30.0, 64.0], [4.0, 2.0, 32.0], 2.0),
    case!("32_keys", 32.0, [1.0, 31.0, 64.0], [4.0, 2.0, 32.0], 2.0),
    case!("33_keys", 32.0, [1.0, 32.0, 64.0], [4.0, 2.0, 32.0], 2.0),
    case!("a_key_less_than_splits", 32.0, [1.0, 126.0, 256.0], [2.0, 1.0, 64.0], 8.0),
    case!("a_key_more_than_splits", 32.0, [1.0, 128.0, 256.0], [2.0, 1.0, 64.0], 8.0),
    case!("a_full_cache_in_one", 32.0, [1.0, 199.0, 200.0], [4.0, 1.0, 128.0], 1.0),
    case!("4100_keys", 32.0, [1.0, 4099.0, 4224.0], [4.0, 1.0, 128.0], 9.0),
    case!("widest_head", 32.0, [1.0, 149.0, 160.0], [3.0, 1.0, 256.0], 2.0),
    case!("narrowest_head", 32.0, [1.0, 90.0, 100.0], [2.0, 2.0, 4.0], 3.0),
    case!("five_queries_a_key", 32.0, [1.0, 77.0, 80.0], [10.0, 2.0, 20.0], 3.0),
    case!("three_tokens", 32.0, [3.0, 31.0, 40.0], [6.0, 2.0, 36.0], 2.0),
    case!("overfull", 32.0, [3.0, 39.0, 40.0], [6.0, 2.0, 36.0], 2.0),
    case!("three_sequences", 32.0, [1.0, 5.0, 80.0], [4.0, 2.0, 32.0], 2.0, 1.0, 3.0, 8.0),
    case!("peaked_softmax", 32.0, [1.0, 149.0, 160.0], [2.0, 1.0, 64.0], 2.0, 6.0, 1.0, 0.0),
    case!("fast_math_softmax_1e4", 32.0, [1.0, 149.0, 160.0], [2.0, 1.0, 16.0], 2.0, 1e3, 1.0, 0.0),
    case!("half_one_key", 16.0, [1.0, 0.0, 4.0], [4.0, 1.0, 32.0], 1.0),
    case!("half_4100_keys", 16.0, [1.0, 4099.0, 4224.0], [4.0, 1.0, 128.0], 9.0),
    case!("half_head_of_40", 16.0, [1.0, 99.0, 120.0], [6.0, 2.0, 40.0], 3.0),
    case!("half_widest_head", 16.0, [1.0, 149.0, 160.0], [3.0, 1.0, 256.0], 2.0),
    case!("half_three_sequences", 16.0, [1.0, 5.0, 80.0], [4.0, 2.0, 16.0], 2.0, 1.0, 3.0, 8.0),
    case!("int8_one_key", 8.0, [1.0, 0.0, 4.0], [4.0, 1.0, 32.0], 1.0),
    case!("int8_4100_keys", 8.0, [1.0, 4099.0, 4224.0], [4.0, 1.0, 128.0], 9.0),
    case!("int8_head_of_48", 8.0, [1.0, 99.0, 120.0], [6.0, 2.0, 48.0], 3.0),
    case!("int8_widest_head", 8.0, [1.0, 149.0, 160.0], [3.0, 1.0, 256.0], 2.0),
    case!("int8_three_sequences", 8.0, [1.0, 5.0, 80.0], [4.0, 2.0, 16.0], 2.0, 1.0, 3.0, 8.0),
    case!("int4_one_key", 4.0, [1.0, 0.0, 4.0], [4.0, 1.0, 32.0], 1.0),
    case!("int4_4100_keys", 4.0, [1.0, 4099.0, 4224.0], [4.0, 1.0, 128.0], 9.0),
    case!("int4_head_of_96", 4.0, [1.0, 99.0, 120.0], [6.0, 2.0, 96.0], 3.0),
    case!("int4_widest_head", 4.0, [1.0, 149.0, 160.0], [3.0, 1.0, 256.0], 2.0),
    case!("int4_three_sequences", 4.0, [1.0, 5.0, 80.0], [4.0, 2.0, 32.0], 2.0, 1.0, 3.0, 8.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let given = inputs(s, a)?;
    let (Inputs { cache, cursor, dims, .. }, splits) = (&given, a.usize("splits"));
    let rows = given.rows * dims.heads * splits;
    // What splits without keys leave as it is.
    let sums = s.state("parts", [rows, dims.head_dim], Fill::Normal(1.0))?;
    let stats = s.state("stats", [rows, 2], Fill::Normal(1.0))?;
    attention_split(s.plan(), given.q()?, cache, cursor, &AttentionParts { sums, stats, splits }, *dims)
}

fn work(a: &Args) -> Work {
    let parts = a.usize("tokens") * a.usize("heads") * a.usize("splits") * (a.usize("head_dim") + 2);
    let Work { bytes, ops } = attention_work(a);
    Work { bytes: bytes + 4 * parts, ops }
}
