//! Symmetric int8 codes of each row: `scale = max|x| / 127`, `code = round(x / scale)`, ties to even, within ±127.
//! Yao et al. 2022, arXiv:2206.01861.

use rayon::prelude::*;

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_tokens::Params;

/// `x`: `[rows, cols]`; `codes`: `[rows, cols]` int8; `scales`: `[rows]`. A row whose largest value is below
/// 1e-35 has scale 1 and codes 0.
pub fn quantize_tokens(p: &Params, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let cols = p.cols as usize;
    let words = words_per_row(8, cols);
    let rows = x.par_chunks_exact(cols).zip(codes.par_chunks_exact_mut(words)).zip(scales);
    rows.for_each(|((x, codes), scale)| {
        let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        if largest < 1e-35 {
            *scale = 1.0;
            codes.fill(0);
            return;
        }
        *scale = largest * (1.0 / 127.0);
        let code = |v: &f32| (f64::from(*v) / f64::from(*scale)).round_ties_even().clamp(-127.0, 127.0) as i8;
        codes.copy_from_slice(&pack_codes(8, &x.iter().map(code).collect::<Vec<i8>>(), cols));
    });
}
