//! `out[r] = codes[ids[r]] * scales[ids[r]]`.

use crate::pack::{code_at, words_per_row};
use crate::shaders::embed_w8::Params;

/// `ids`: `[rows]`; `codes`: `[part_rows, cols]` int8, rows from a word; `scales`: `[part_rows]`; `out`: `[rows, cols]`, rows of
/// ids that are not in the part left alone.
pub fn embed_w8(p: &Params, ids: &[u32], codes: &[u32], scales: &[f32], out: &mut [f32]) {
    let cols = p.cols as usize;
    let words = words_per_row(8, cols);
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
        let Some(row) = (*id).min(p.vocab - 1).checked_sub(p.part_first).filter(|row| *row < p.part_rows) else {
            continue;
        };
        let row = row as usize;
        for (c, out) in out.iter_mut().enumerate() {
            *out = f32::from(code_at(8, &codes[row * words..][..words], c)) * scales[row];
        }
    }
}
