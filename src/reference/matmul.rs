//! What the matrix products share: dot products, codes as numbers, and the epilogue.

use rayon::prelude::*;

use crate::pack::unpack_codes;

/// Rows of `x` that go together over a row of the weight, so that it is read from the cache.
const ROWS: usize = 8;
/// Outputs a task computes when there is one row.
const OUTPUTS: usize = 64;

/// `out[i, j]` = `epilogue` of `y(i, j)`, over a matrix of `n` columns, in parallel.
pub(super) fn for_each(epilogue: u32, n: usize, out: &mut [f32], y: impl Fn(usize, usize) -> f64 + Sync) {
    let m = out.len() / n.max(1);
    if m == 1 {
        out.par_iter_mut().with_min_len(OUTPUTS).enumerate().for_each(|(j, out)| finish(epilogue, y(0, j), out));
        return;
    }
    let rows = m.div_ceil(rayon::current_num_threads()).clamp(1, ROWS);
    out.par_chunks_mut(rows * n).enumerate().for_each(|(block, out)| {
        for j in 0..n {
            for (i, out) in out.chunks_exact_mut(n).enumerate() {
                finish(epilogue, y(block * rows + i, j), &mut out[j]);
            }
        }
    });
}

/// The twin of `shaders/shared/epilogue.wgsl`.
fn finish(epilogue: u32, y: f64, out: &mut f32) {
    *out = match epilogue {
        1 => y.max(0.0).powi(2),
        2 => f64::from(*out) + y,
        _ => y,
    } as f32;
}

/// Σ a b of codes. The caller's groups are short enough for int32.
pub(super) fn int_dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
}

/// Σ over groups of scale · (int32 sum over the group).
pub(super) fn grouped_dot(a: &[i16], b: &[i16], group: usize, scales: &[f32]) -> f64 {
    let groups = a.chunks(group).zip(b.chunks(group));
    groups.zip(scales).map(|((a, b), scale)| f64::from(int_dot(a, b)) * f64::from(*scale)).sum()
}

/// Codes `[rows, cols]` of `bits`, wide enough for [`int_dot`].
pub(super) fn codes(bits: usize, words: &[u32], cols: usize) -> Vec<i16> {
    let per_row = crate::pack::words_per_row(bits, cols);
    let mut codes = vec![0; words.len() / per_row * cols];
    codes.par_chunks_mut(cols).zip(words.par_chunks(per_row)).for_each(|(codes, words)| {
        for (code, c) in codes.iter_mut().zip(unpack_codes(bits, words, cols)) {
            *code = i16::from(c);
        }
    });
    codes
}

/// As f64, in parallel.
pub(super) fn widened(values: &[f32]) -> Vec<f64> {
    values.par_iter().map(|v| f64::from(*v)).collect()
}

/// A weight `[rows, cols]` in words as f64: f32, or rows of f16 or bf16 that start at words.
pub(super) fn float_weight(words: &[u32], cols: usize, dtype: crate::tensor::DType) -> Vec<f64> {
    use crate::tensor::DType;
    if dtype == DType::F32 {
        return words.par_iter().map(|w| f64::from(f32::from_bits(*w))).collect();
    }
    let row = |words: &[u32]| -> Vec<f64> {
        let halves = words.iter().flat_map(|w| [*w as u16, (*w >> 16) as u16]).take(cols);
        if dtype == DType::F16 {
            halves.map(|h| half::f16::from_bits(h).to_f64()).collect()
        } else {
            halves.map(|h| half::bf16::from_bits(h).to_f64()).collect()
        }
    };
    words.par_chunks(cols.div_ceil(2)).flat_map_iter(row).collect()
}

/// Weights `[n, k]` from int4 codes and the scales of their groups.
pub(super) fn dequantized(words: &[u32], scales: &[f32], cols: usize, group: usize) -> Vec<f64> {
    let groups = cols.div_ceil(group);
    let mut weight: Vec<f64> = codes(4, words, cols).into_par_iter().map(f64::from).collect();
    weight.par_chunks_mut(cols).zip(scales.par_chunks(groups)).for_each(|(row, scales)| {
        for (w, scale) in row.chunks_mut(group).zip(scales) {
            w.iter_mut().for_each(|w| *w *= f64::from(*scale));
        }
    });
    weight
}
