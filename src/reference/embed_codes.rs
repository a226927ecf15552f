//! `out[r] = codes[ids[r]]` times the scales of their groups.

use super::matmul::scales_of_rows;
use crate::pack::{code_at, words_per_row};
use crate::shaders::embed_codes::{Format, Params};

/// `ids`: `[rows]`; `codes`: `[part_rows, cols]` int8 or int4, rows from a word; `weight_scales`: `[part_rows, groups]`;
/// `out`: `[rows, cols]`, rows of ids that are not in the part left alone.
pub fn embed_codes(p: &Params, format: Format, ids: &[u32], codes: &[u32], weight_scales: &[u32], out: &mut [f32]) {
    let (cols, group) = (p.cols as usize, p.group as usize);
    let bits = match format {
        Format::Int8 => 8,
        Format::Int4 => 4,
    };
    let (words, groups) = (words_per_row(bits, cols), cols.div_ceil(group));
    let scales = scales_of_rows(weight_scales, p.scale_bits, [p.part_rows as usize, groups]);
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
        let Some(row) = (*id).min(p.vocab - 1).checked_sub(p.part_first).filter(|row| *row < p.part_rows) else {
            continue;
        };
        let row = row as usize;
        for (c, out) in out.iter_mut().enumerate() {
            *out = f32::from(code_at(bits, &codes[row * words..][..words], c)) * scales[row * groups + c / group];
        }
    }
}
