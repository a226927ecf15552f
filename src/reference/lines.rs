//! Matrices whose lines run over the rows of a weight, a few rows at a time: what GPTQ's kernels work on.

use crate::pack::words_per_row;

/// Rows worked on together, a multiple of the codes of a word.
pub(super) const LANES: usize = 16;
/// One line's values for those rows; zeros beyond the end.
pub(super) type Lanes = [f32; LANES];

/// Values of line `line` of `[_, rows]` from `row` on.
pub(super) fn load(values: &[f32], line: usize, rows: usize, row: usize) -> Lanes {
    let mut out = [0.0; LANES];
    let count = LANES.min(rows - row);
    out[..count].copy_from_slice(&values[line * rows + row..][..count]);
    out
}

/// The inverse of [`load`].
pub(super) fn store(values: &mut [f32], line: usize, rows: usize, row: usize, lanes: &Lanes) {
    let count = LANES.min(rows - row);
    values[line * rows + row..][..count].copy_from_slice(&lanes[..count]);
}

/// The words of int8 codes of a line from `row` on.
pub(super) fn words(line: usize, rows: usize, row: usize) -> std::ops::Range<usize> {
    let start = line * words_per_row(8, rows) + row / 4;
    start..start + words_per_row(8, LANES.min(rows - row))
}

/// Packs codes; those beyond the end are 0.
pub(super) fn store_codes(codes: &mut [u32], line: usize, rows: usize, row: usize, lanes: &Lanes) {
    let count = LANES.min(rows - row);
    let mut bytes = [0i8; LANES];
    bytes.iter_mut().zip(&lanes[..count]).for_each(|(b, c)| *b = *c as i8);
    let packed = crate::pack::pack_codes(8, &bytes[..count], count);
    codes[words(line, rows, row)].copy_from_slice(&packed);
}
