//! Symmetric int8 codes of rows whose largest magnitudes are known by runs of columns. Yao et al. 2022, arXiv:2206.01861.

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_maxima::Params;

/// `x`: `[rows, cols]`; `maxima`: `[rows, runs]`; `codes`: `[rows, cols]` int8; `scales`: `[rows]`.
pub fn quantize_maxima(p: &Params, x: &[f32], maxima: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let (cols, runs) = (p.cols as usize, p.runs as usize);
    let rows = x.chunks_exact(cols).zip(maxima.chunks_exact(runs));
    for (((x, maxima), codes), scale) in rows.zip(codes.chunks_exact_mut(words_per_row(8, cols))).zip(scales) {
        let largest = maxima.iter().fold(0.0f32, |m, v| m.max(*v));
        let made = super::quantize_tokens::codes_under(largest, x, 127.0, scale);
        codes.copy_from_slice(&pack_codes(8, &made, cols));
    }
}
