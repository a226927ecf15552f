//! What [`super::attention_merge`] makes, as int8 codes with a scale for each 32 columns.

use super::attention_merge::attention_merge;
use super::grouped_rows::GROUP;
use super::quantize_tokens::group_codes;
use crate::shaders::attention_merge as merge;
use crate::shaders::attention_merge_codes::Params;

/// Inputs as of [`attention_merge`]; `codes`: `[sequences · tokens, heads · head_dim]` int8; `scales`: `[.., heads · head_dim / 32]`.
pub fn attention_merge_codes(
    p: &Params,
    parts: &[f32],
    stats: &[f32],
    cursor: &[u32],
    codes: &mut [u32],
    scales: &mut [f32],
) {
    let Params { sequences, tokens, heads, head_dim, max, splits } = *p;
    let mut y = vec![0.0; scales.len() * GROUP];
    attention_merge(&merge::Params { sequences, tokens, heads, head_dim, max, splits }, parts, stats, cursor, &mut y);
    group_codes(&y, GROUP, codes, scales);
}
