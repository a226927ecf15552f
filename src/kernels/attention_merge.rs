//! Puts together what workgroups that share a sequence's keys found.

use super::attention::AttentionDims;
use super::attention_split::AttentionParts;
use super::bindings::attention_merge::{Bindings, launch};
use super::check::{Args, Case, Entry, Fill, Setup, Work};
use super::kv_append::cursors_of;
use super::kv_cache::{KvCache, KvFormat};
use super::ssd::expect_f32;
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::attention_merge::Params;
use crate::tensor::DType;

const NAME: &str = "attention_merge";
/// Most workgroups that share a sequence's keys.
const MOST_SPLITS: usize = 256;

/// `out = Σ w sums / Σ w total` over the splits of [`super::attention_split`], `w = exp(peak - largest peak)`.
///
/// `parts`: as that left them; `cache` and `cursor`: what they are of; `out`: `[sequences · tokens, heads · head_dim]` f32.
///
/// # Errors
/// [`Error::Shape`], [`Error::DType`] or [`Error::Argument`] naming the argument at fault; `head_dim` must be a multiple of 4.
pub fn attention_merge(
    plan: &mut Plan,
    parts: &AttentionParts,
    cache: &KvCache,
    cursor: &DeviceTensor,
    out: &DeviceTensor,
    dims: AttentionDims,
) -> Result<()> {
    let all = out.shape.rows();
    expect_f32(NAME, &[("out", out, [all, dims.heads * dims.head_dim])])?;
    let (tokens, [sums, stats]) = checked(NAME, all, parts, cache, cursor, dims)?;
    let params = Params {
        sequences: cache.sequences as u32,
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
        splits: parts.splits as u32,
    };
    launch(plan, params, Bindings { parts: &sums, stats: &stats, cursor, out }, Grid::linear(all * dims.heads))
}

/// Checks what the kernels that put parts together read, of `all` tokens of all sequences, and gives a sequence's tokens and all parts.
pub(super) fn checked(
    kernel: &'static str,
    all: usize,
    parts: &AttentionParts,
    cache: &KvCache,
    cursor: &DeviceTensor,
    dims: AttentionDims,
) -> Result<(usize, [DeviceTensor; 2])> {
    dims.check(kernel)?;
    let tokens = cache.check(kernel, dims, all)?;
    expect_dtype(kernel, "cursor", cursor, DType::U32, "u32")?;
    expect(kernel, "cursor", cursor, [cache.sequences])?;
    if !dims.head_dim.is_multiple_of(4) || !(1..=MOST_SPLITS).contains(&parts.splits) {
        let reason = format!("heads of whole 16 bytes, 1 to {MOST_SPLITS} splits, got {dims:?}, {}", parts.splits);
        return Err(Error::argument(format!("{kernel}: `parts`"), reason));
    }
    Ok((tokens, parts.of_tokens(all, dims)?))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

/// A case of parts: tokens, cursor and rows of the cache; heads and their size; splits; sequences.
macro_rules! parts_case {
    ($name:expr, [$tokens:expr, $cursor:expr, $max:expr], [$heads:expr, $head_dim:expr], $splits:expr, $sequences:expr) => {
        Case {
            name: $name,
            args: &[
                ("tokens", $tokens),
                ("cursor", $cursor),
                ("max", $max),
                ("heads", $heads),
                ("head_dim", $head_dim),
                ("splits", $splits),
                ("sequences", $sequences),
                ("stride", 50.0),
            ],
        }
    };
}

pub(super) use parts_case;

const CASES: &[Case] = &[
    parts_case!("one_key", [1.0, 0.0, 64.0], [2.0, 32.0], 4.0, 1.0),
    parts_case!("nano_token", [1.0, 70.0, 128.0], [4.0, 32.0], 8.0, 1.0),
    parts_case!("8b_token", [1.0, 2047.0, 4096.0], [32.0, 128.0], 32.0, 1.0),
    parts_case!("many_splits", [1.0, 4000.0, 4096.0], [2.0, 128.0], 64.0, 1.0),
    parts_case!("most_splits", [1.0, 4095.0, 4096.0], [2.0, 20.0], 256.0, 1.0),
    parts_case!("widest_head", [1.0, 300.0, 400.0], [2.0, 256.0], 13.0, 1.0),
    parts_case!("narrowest_head", [1.0, 300.0, 400.0], [3.0, 4.0], 13.0, 1.0),
    parts_case!("sequences_of_two_tokens", [2.0, 9.0, 150.0], [3.0, 36.0], 5.0, 3.0),
];

/// Inputs of a case: dimensions, parts, cache and cursors.
pub(super) fn parts_of_case(s: &mut Setup, a: &Args) -> Result<(AttentionDims, AttentionParts, KvCache, DeviceTensor)> {
    let (cursors, splits, heads) = (cursors_of(a), a.usize("splits"), a.usize("heads"));
    let dims = AttentionDims { heads, kv_heads: heads, head_dim: a.usize("head_dim") };
    let rows = cursors.len() * a.usize("tokens") * heads * splits;
    let sums = s.input([rows, dims.head_dim], Fill::Normal(1.0))?;
    // Peaks of a few units, sums of 1 to 20.
    let (peaks, totals) = (s.values(rows, Fill::Normal(2.0)), s.values(rows, Fill::Uniform(1.0, 20.0)));
    let stats: Vec<f32> = peaks.into_iter().zip(totals).flat_map(|(peak, total)| [peak, total]).collect();
    let stats = s.device().upload_f32([rows, 2], &stats)?;
    let cursor = s.device().upload_words(DType::U32, [cursors.len()], &cursors)?;
    let cache = KvCache::of_sequences(s.device(), dims, cursors.len(), a.usize("max"), KvFormat::F32)?;
    Ok((dims, AttentionParts { sums, stats, splits }, cache, cursor))
}

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, parts, cache, cursor) = parts_of_case(s, a)?;
    let out = s.output("out", DType::F32, [cache.sequences * a.usize("tokens"), dims.heads * dims.head_dim])?;
    attention_merge(s.plan(), &parts, &cache, &cursor, &out, dims)
}

/// Cost of a case.
pub(super) fn work(a: &Args) -> Work {
    let rows = cursors_of(a).len() * a.usize("tokens") * a.usize("heads");
    let (parts, head_dim) = (rows * a.usize("splits"), a.usize("head_dim"));
    Work { bytes: 4 * (parts * (head_dim + 2) + rows * head_dim), ops: parts * (2 * head_dim + 4) }
}
