//! Puts together what workgroups that share a sequence's keys found, as int8 codes.

use super::attention::AttentionDims;
use super::attention_merge::{checked, parts_case, parts_of_case, work};
use super::attention_split::AttentionParts;
use super::bindings::attention_merge_codes::{Bindings, launch};
use super::check::{Args, Case, Entry, Setup};
use super::grouped_rows::TOKEN_GROUP;
use super::kv_cache::KvCache;
use super::scaled::Scaled;
use super::ssd::expect_f32;
use super::{expect, expect_dtype};
use crate::error::{Error, Result};
use crate::gpu::{DeviceTensor, Grid, Plan};
use crate::shaders::attention_merge_codes::Params;
use crate::tensor::DType;

const NAME: &str = "attention_merge_codes";

/// [`super::attention_merge`], and int8 codes of what it makes with a scale for each [`TOKEN_GROUP`] columns, as [`super::quantize_tokens`]
/// would make them: what [`super::matvec_grouped_add`] takes.
///
/// `out`: `[sequences · tokens, heads · head_dim]` int8 in groups of [`TOKEN_GROUP`]; the rest as there.
///
/// # Errors
/// As [`super::attention_merge`]; `head_dim` must be a multiple of [`TOKEN_GROUP`].
pub fn attention_merge_codes(
    plan: &mut Plan,
    parts: &AttentionParts,
    cache: &KvCache,
    cursor: &DeviceTensor,
    out: Scaled<'_>,
    dims: AttentionDims,
) -> Result<()> {
    let (all, width) = (out.codes.shape.rows(), dims.heads * dims.head_dim);
    if !dims.head_dim.is_multiple_of(TOKEN_GROUP) || out.group != TOKEN_GROUP {
        let reason = format!("heads of {} columns in groups of {}, not of {TOKEN_GROUP}", dims.head_dim, out.group);
        return Err(Error::argument(format!("{NAME}: `out`"), reason));
    }
    expect_dtype(NAME, "codes", out.codes, DType::I8, "i8")?;
    expect(NAME, "codes", out.codes, [all, width])?;
    expect_f32(NAME, &[("scales", out.scales, [all, width / TOKEN_GROUP])])?;
    let (tokens, [sums, stats]) = checked(NAME, all, parts, cache, cursor, dims)?;
    let params = Params {
        sequences: cache.sequences as u32,
        tokens: tokens as u32,
        heads: dims.heads as u32,
        head_dim: dims.head_dim as u32,
        max: cache.max() as u32,
        splits: parts.splits as u32,
    };
    let bindings = Bindings { parts: &sums, stats: &stats, cursor, codes: out.codes, scales: out.scales };
    launch(plan, params, bindings, Grid::linear(all * dims.heads))
}

/// Cases, setup and cost.
pub(super) const ENTRY: Entry = Entry { name: NAME, cases: CASES, setup, work };

const CASES: &[Case] = &[
    parts_case!("one_key", [1.0, 0.0, 64.0], [2.0, 32.0], 4.0, 1.0),
    parts_case!("nano_token", [1.0, 70.0, 128.0], [4.0, 32.0], 8.0, 1.0),
    parts_case!("8b_token", [1.0, 2047.0, 4096.0], [32.0, 128.0], 32.0, 1.0),
    parts_case!("many_splits", [1.0, 4000.0, 4096.0], [2.0, 128.0], 64.0, 1.0),
    parts_case!("most_splits", [1.0, 4095.0, 4096.0], [2.0, 96.0], 256.0, 1.0),
    parts_case!("widest_head", [1.0, 300.0, 400.0], [2.0, 256.0], 13.0, 1.0),
    parts_case!("sequences_of_two_tokens", [2.0, 9.0, 150.0], [3.0, 64.0], 5.0, 3.0),
];

fn setup(s: &mut Setup, a: &Args) -> Result<()> {
    let (dims, parts, cache, cursor) = parts_of_case(s, a)?;
    let (all, width) = (cache.sequences * a.usize("tokens"), dims.heads * dims.head_dim);
    let codes = s.rounded_output("codes", DType::I8, [all, width])?;
    let scales = s.output("scales", DType::F32, [all, width / TOKEN_GROUP])?;
    let out = Scaled { codes: &codes, scales: &scales, group: TOKEN_GROUP };
    attention_merge_codes(s.plan(), &parts, &cache, &cursor, out, dims)
}
