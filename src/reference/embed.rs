//! `out[r] = table[ids[r]]`.

use half::{bf16, f16};

use crate::shaders::embed::{Format, Params};

/// `ids`: `[rows]`; `table`: `[part_rows, cols]` in `format`, rows from a word; `out`: `[rows, cols]`, rows of
/// ids that are not in the part left alone.
pub fn embed(p: &Params, format: Format, ids: &[u32], table: &[u32], out: &mut [f32]) {
    let cols = p.cols as usize;
    for (id, out) in ids.iter().zip(out.chunks_exact_mut(cols)) {
        let Some(row) = (*id).min(p.vocab - 1).checked_sub(p.part_first).filter(|row| *row < p.part_rows) else {
            continue;
        };
        let row = row as usize;
        let half = |c: usize| (table[row * cols.div_ceil(2) + c / 2] >> (16 * (c % 2))) as u16;
        for (c, out) in out.iter_mut().enumerate() {
            *out = match format {
                Format::WF32 => f32::from_bits(table[row * cols + c]),
                Format::WF16 => f16::from_bits(half(c)).to_f32(),
                Format::WBf16 => bf16::from_bits(half(c)).to_f32(),
            };
        }
    }
}
