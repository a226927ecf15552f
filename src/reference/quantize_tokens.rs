//! Symmetric int8 codes of each group of a row: `scale = max|x| / 127`, `code = round(x / scale)`, ties to even, within
//! ±127. Yao et al. 2022, arXiv:2206.01861; by groups, Zhao et al. 2023, arXiv:2310.19102.

use rayon::prelude::*;

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_tokens::{Format, Params};

/// `x`: `[rows, cols]`; `codes`: `[rows, cols]` int8; `scales`: `[rows, ceil(cols / group)]`. A group whose largest
/// value is below 1e-35 has scale 1 and codes 0.
pub fn quantize_tokens(p: &Params, _: Format, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    quantize_rows(x, p.cols as usize, p.group as usize, codes, scales);
}

/// The same for other kernels that end with it.
pub(super) fn quantize_rows(x: &[f32], cols: usize, group: usize, codes: &mut [u32], scales: &mut [f32]) {
    let words = words_per_row(8, cols);
    let scales = scales.par_chunks_exact_mut(cols.div_ceil(group));
    let rows = x.par_chunks_exact(cols).zip(codes.par_chunks_exact_mut(words)).zip(scales);
    rows.for_each(|((x, codes), scales)| {
        let groups = x.chunks(group).zip(scales).flat_map(|(x, scale)| quantized(x, 127.0, scale));
        codes.copy_from_slice(&pack_codes(8, &groups.collect::<Vec<i8>>(), cols));
    });
}

/// The codes of one group within ±`top`, and its scale.
pub(super) fn quantized(x: &[f32], top: f32, scale: &mut f32) -> Vec<i8> {
    codes_under(x.iter().fold(0.0f32, |m, v| m.max(v.abs())), x, top, scale)
}

/// Likewise, where the largest magnitude is known.
pub(super) fn codes_under(largest: f32, x: &[f32], top: f32, scale: &mut f32) -> Vec<i8> {
    if largest < 1e-35 {
        *scale = 1.0;
        return vec![0; x.len()];
    }
    *scale = largest * (1.0 / top);
    let (top, scale) = (f64::from(top), f64::from(*scale));
    x.iter().map(|v| (f64::from(*v) / scale).round_ties_even().clamp(-top, top) as i8).collect()
}
