//! Causal grouped-query attention over a cache, without positions.

use super::bindings::attention::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::kv_append::{cursors_of, format_of, words_of};
use super::kv_cache::{KvCache, KvFormat};
use super::ssd::expect_f32;
use super::{Columns, expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::attention::{Format, Params};
use crate::tensor::DType;

const NAME: &str = "attention";
/// Rows (token and query head), and columns of a head, of one workgroup; of blocks it has all columns.
const TILE: usize = 64;
/// Rows from which tiles in workgroup memory and matrix units pay, and the widest head they take.
const BLOCK_ROWS: usize = 32;
const BLOCK_HEAD: usize = 128;

/// Sizes of an attention layer. Query head `j` reads kv head `j / (heads / kv_heads)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionDims {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Elements of a head, at most 256; fastest for multiples of 4.
    pub head_dim: usize,
}

impl AttentionDims {
    /// Refuses what no kernel can do.
    pub(super) fn check(self, kernel: &'static str) -> Result<()> {
        let refuse = |what: &str| Err(Error::argument(format!("{kernel}: `dims`"), format!("{what}, got {self:?}")));
        if self.heads == 0 || self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return refuse("heads must be a multiple of kv_heads");
        }
        if !(1..=256).contains(&self.head_dim) {
            return refuse("head_dim must be 1 to 256");
        }
        Ok(())
    }
}

/// `out = softmax(q·kᵀ / sqrt(head_dim)) v`, query `t` over its sequence's cache rows `0..=cursor + t`.
/// Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245.
///
/// `q`, which may be columns of a wider tensor, and `out`: `[sequences · tokens, heads · head_dim]` f32, sequence by sequence; to the `cache` these tokens' keys and
/// values are appended already, f32, f16 or codes, which become f32 as they are read, or on
/// matrix units f16, two a number of f32 caches and one of others; `cursor`: `[sequences]` u32, the tokens
/// before these.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault.
pub fn attention<'a>(
    plan: &mut Plan,
    q: impl Into<Columns<'a>>,
    cache: &KvCache,
    cursor: &DeviceTensor,
    out: &DeviceTensor,
    dims: AttentionDims,
) -> Result<()> {
    dims.check(NAME)?;
    let q = q.into();
    let (all, width) = (q.tensor.shape.rows(), dims.heads * dims.head_dim);
    let tokens = cache.check(NAME, dims, all)?;
    expect_dtype(NAME, "cursor", cursor, DType::U32, "u32")?;
    expect(NAME, "cursor", cursor, [cache.sequences])?;
    q.expect(NAME, "q", [all, width])?;
    expect_f32(NAME, &[("out", out, [all, width])])?;
    let params = Params {
        sequences: cache.sequences as u32,
        tokens: tokens as u32,
        heads: dims.heads as u32,
        kv_heads: dims.kv_heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
        q_offset: q.offset as u32,
        q_stride: q.stride() as u32,
        scale: (dims.head_dim as f32).sqrt().recip(),
    };
    let rows = tokens * (dims.heads / dims.kv_heads);
    let blocks = rows >= BLOCK_ROWS && dims.head_dim <= BLOCK_HEAD;
    let format = match (cache.format, dims.head_dim.is_multiple_of(4) && q.in_quads()) {
        (KvFormat::F32, true) if blocks => Format::Blocks,
        (KvFormat::F32, true) => Format::Quads,
        (KvFormat::F32, false) => Format::Scalars,
        (KvFormat::F16, true) if blocks && dims.head_dim.is_multiple_of(8) => Format::HalfBlocks,
        (KvFormat::F16, true) => Format::Half,
        (KvFormat::F16, false) => Format::HalfScalars,
        (KvFormat::Int8, true) if blocks && dims.head_dim.is_multiple_of(16) && cache.key.words().is_multiple_of(4) => {
            Format::Int8Blocks
        }
        (KvFormat::Int8, true) => Format::Int8,
        (KvFormat::Int8, false) => Format::Int8Scalars,
        (KvFormat::Int4, true) => Format::Int4,
        (KvFormat::Int4, false) => Format::Int4Scalars,
    };
    let whole_heads = matches!(format, Format::Blocks | Format::HalfBlocks | Format::Int8Blocks);
    let column_tiles = if whole_heads { 1 } else { dims.head_dim.div_ceil(TILE) };
    let grid = Grid::linear(cache.sequences * rows.div_ceil(TILE) * dims.kv_heads * column_tiles);
    let KvCache { key: k_cache, value: v_cache, .. } = cache;
    launch(plan, format, params, Bindings { q: q.tensor, k_cache, v_cache, cursor, out }, grid)
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

macro_rules! case {
    ($name:expr, $bits:expr, $tokens:expr, $cursor:expr, $max:expr, $of:expr, $sd:expr $(, $sequences:expr, $stride:expr, $before:expr)?) => {
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
                ("sd", $sd),
                $(("sequences", $sequences), ("stride", $stride), ("before", $before),)?
            ],
        }
    };
}
pub(super) use case;

const CASES: &[Case] = &[
    case!("nano_prompt", 32.0, 75.0, 0.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("nano_prompt_continued", 32.0, 40.0, 30.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("nano_token", 32.0, 1.0, 70.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("first_token", 32.0, 1.0, 0.0, 4.0, [2.0, 1.0, 16.0], 1.0),
    case!("nemotron_head_dim", 32.0, 9.0, 33.0, 42.0, [4.0, 1.0, 128.0], 1.0),
    case!("widest_head", 32.0, 3.0, 5.0, 8.0, [1.0, 1.0, 256.0], 1.0),
    case!("odd_head_dim", 32.0, 20.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("one_element_heads", 32.0, 5.0, 0.0, 5.0, [2.0, 2.0, 1.0], 1.0),
    case!("five_queries_a_key", 32.0, 33.0, 1.0, 40.0, [5.0, 1.0, 20.0], 1.0),
    case!("peaked_softmax", 32.0, 40.0, 0.0, 40.0, [2.0, 1.0, 64.0], 6.0),
    // docs/driver-faults.md: exp under fast math (llama.cpp's unary.wgsl).
    case!("fast_math_softmax_1e4", 32.0, 40.0, 0.0, 40.0, [2.0, 1.0, 16.0], 1e3),
    case!("half_nano_prompt", 16.0, 75.0, 0.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("half_nano_prompt_continued", 16.0, 40.0, 30.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("half_nano_token", 16.0, 1.0, 70.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("half_nemotron_head_dim", 16.0, 9.0, 33.0, 42.0, [4.0, 1.0, 128.0], 1.0),
    case!("half_widest_head", 16.0, 3.0, 5.0, 8.0, [1.0, 1.0, 256.0], 1.0),
    case!("half_odd_head_dim", 16.0, 20.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("half_five_queries_a_key", 16.0, 33.0, 1.0, 40.0, [5.0, 1.0, 20.0], 1.0),
    case!("half_overfull", 16.0, 20.0, 15.0, 24.0, [6.0, 2.0, 40.0], 1.0),
    case!("half_8b_prompt_continued", 16.0, 70.0, 61.0, 131.0, [8.0, 2.0, 128.0], 1.0),
    case!("half_8b_peaks_that_grow", 16.0, 70.0, 61.0, 131.0, [4.0, 1.0, 128.0], 30.0),
    case!("half_three_sequences", 16.0, 1.0, 5.0, 80.0, [4.0, 2.0, 32.0], 1.0, 3.0, 34.0, 8.0),
    case!("half_sequences_of_20_tokens_overfull", 16.0, 20.0, 40.0, 60.0, [4.0, 2.0, 64.0], 1.0, 3.0, 7.0, 4.0),
    case!("int8_nano_prompt_continued", 8.0, 40.0, 30.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("int8_nano_token", 8.0, 1.0, 70.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("int8_nemotron_head_dim", 8.0, 9.0, 33.0, 42.0, [4.0, 1.0, 128.0], 1.0),
    case!("int8_widest_head", 8.0, 3.0, 5.0, 8.0, [1.0, 1.0, 256.0], 1.0),
    case!("int8_odd_head_dim", 8.0, 20.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("int8_odd_token", 8.0, 1.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("int8_nano_prompt", 8.0, 75.0, 0.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("int8_8b_prompt_continued", 8.0, 70.0, 61.0, 132.0, [8.0, 2.0, 128.0], 1.0),
    case!("int8_8b_peaks_that_grow", 8.0, 70.0, 61.0, 132.0, [4.0, 1.0, 128.0], 30.0),
    case!("int8_sequences_of_20_tokens_overfull", 8.0, 20.0, 40.0, 60.0, [4.0, 2.0, 48.0], 1.0, 3.0, 7.0, 4.0),
    case!("int8_overfull", 8.0, 20.0, 15.0, 24.0, [6.0, 2.0, 36.0], 1.0),
    case!("int4_nano_prompt_continued", 4.0, 40.0, 30.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("int4_nano_token", 4.0, 1.0, 70.0, 80.0, [4.0, 2.0, 32.0], 1.0),
    case!("int4_nemotron_head_dim", 4.0, 9.0, 33.0, 42.0, [4.0, 1.0, 128.0], 1.0),
    case!("int4_widest_head", 4.0, 3.0, 5.0, 8.0, [1.0, 1.0, 256.0], 1.0),
    case!("int4_odd_head_dim", 4.0, 20.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("int4_odd_token", 4.0, 1.0, 15.0, 35.0, [6.0, 2.0, 37.0], 1.0),
    case!("int4_ragged_group_overfull", 4.0, 20.0, 15.0, 24.0, [6.0, 2.0, 76.0], 1.0),
    case!("8b_prompt_continued", 32.0, 70.0, 61.0, 131.0, [8.0, 2.0, 128.0], 1.0),
    case!("8b_peaks_that_grow", 32.0, 70.0, 61.0, 131.0, [4.0, 1.0, 128.0], 30.0),
    case!("sequences_of_20_tokens_overfull", 32.0, 20.0, 40.0, 60.0, [4.0, 2.0, 64.0], 1.0, 3.0, 7.0, 4.0),
    case!("three_sequences", 32.0, 1.0, 5.0, 80.0, [4.0, 2.0, 32.0], 1.0, 3.0, 34.0, 8.0),
    case!("sequences_of_17_tokens", 32.0, 17.0, 40.0, 60.0, [4.0, 1.0, 37.0], 1.0, 3.0, 1.0, 5.0),
    case!("int8_three_sequences", 8.0, 1.0, 5.0, 80.0, [4.0, 2.0, 32.0], 1.0, 3.0, 34.0, 8.0),
    case!("int4_three_sequences", 4.0, 1.0, 5.0, 80.0, [4.0, 2.0, 40.0], 1.0, 3.0, 34.0, 8.0),
];

/// What attention of a case reads.
pub(super) struct Inputs {
    q: DeviceTensor,
    q_offset: usize,
    /// Tokens of all sequences.
    pub(super) rows: usize,
    pub(super) cache: KvCache,
    pub(super) cursor: DeviceTensor,
    pub(super) dims: AttentionDims,
}

/// Seeded inputs of a case's sizes; all keys and values of the caches are there.
pub(super) fn inputs(s: &mut Setup, a: &Args) -> Result<Inputs> {
    let (tokens, max, format) = (a.usize("tokens"), a.usize("max"), format_of(a));
    let dims = AttentionDims { heads: a.usize("heads"), kv_heads: a.usize("kv_heads"), head_dim: a.usize("head_dim") };
    let (width, kv_width) = (dims.heads * dims.head_dim, dims.kv_heads * dims.head_dim);
    let cursors = cursors_of(a);
    let sequences = cursors.len();
    let sd = a.get("sd").unwrap_or(1.0) as f32;
    // Columns of something else come first.
    let before = a.get("before").unwrap_or(0.0) as usize;
    let mut queries = s.values(sequences * tokens * (width + before), Fill::Normal(sd));
    // Codes with an outlier here and there, so that scales differ.
    let fill = if format == KvFormat::F32 { Fill::Normal(1.0) } else { Fill::Outliers };
    let mut keys = s.values(sequences * max * kv_width, fill);
    let values = s.values(sequences * max * kv_width, fill);
    if sd >= 1e3 {
        // Whole numbers: scores of thousands are exact, and so are their differences.
        queries.iter_mut().for_each(|v| *v = v.round_ties_even());
        keys.iter_mut().for_each(|v| *v = (*v * 4.0).round_ties_even());
    }
    let q = s.device().upload_f32([sequences * tokens, width + before], &queries)?;
    let (dtype, row) = format.row(dims);
    let cache = |x: &[f32]| s.device().upload_words(dtype, [sequences * max, row], &words_of(x, dims, format));
    let cache = KvCache { key: cache(&keys)?, value: cache(&values)?, sequences, format };
    let cursor = s.device().upload_words(DType::U32, [sequences], &cursors)?;
    Ok(Inputs { q, q_offset: before, rows: sequences * tokens, cache, cursor, dims })
}

impl Inputs {
    pub(super) fn q(&self) -> Result<Columns<'_>> {
        Columns::new(NAME, &self.q, self.q_offset, self.dims.heads * self.dims.head_dim)
    }
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let given = inputs(s, a)?;
    let Inputs { cache, cursor, dims, .. } = &given;
    let out = s.output("out", DType::F32, [given.rows, dims.heads * dims.head_dim])?;
    attention(s.plan(), given.q()?, cache, cursor, &out, *dims)
}

pub(super) fn work(a: &Args) -> Work {
    let (tokens, head_dim) = (a.usize("tokens"), a.usize("head_dim"));
    let row = format_of(a).codes(head_dim).map_or(4 * head_dim, |c| 4 * (c.words() + c.groups()));
    let mut work = Work { bytes: 0, ops: 0 };
    for cursor in cursors_of(a) {
        let (keys, seen) = (cursor as usize + tokens, cursor as usize + tokens.div_ceil(2));
        work.bytes += 8 * tokens * a.usize("heads") * head_dim + 2 * keys * a.usize("kv_heads") * row;
        work.ops += 4 * tokens * seen * a.usize("heads") * head_dim;
    }
    work
}
