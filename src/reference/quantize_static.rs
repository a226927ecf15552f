//! Symmetric int8 codes under scales that are given: `code = round(x / scale)`, ties to even, within ±127. Jacob et al.
//! 2017, arXiv:1712.05877.

use rayon::prelude::*;

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_static::Params;

/// `x`: `[rows, cols]`; `given`: `[ceil(cols / group)]`; `codes`: `[rows, cols]` int8; `scales`: `[rows, ceil(cols /
/// group)]`, a copy of `given` for each row.
pub fn quantize_static(p: &Params, x: &[f32], given: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    let (cols, group) = (p.cols as usize, p.group as usize);
    let words = words_per_row(8, cols);
    let scales = scales.par_chunks_exact_mut(cols.div_ceil(group));
    let rows = x.par_chunks_exact(cols).zip(codes.par_chunks_exact_mut(words)).zip(scales);
    rows.for_each(|((x, codes), scales)| {
        let code = |(i, v): (usize, &f32)| {
            let steps = f64::from(*v) / f64::from(given[i / group]);
            steps.round_ties_even().clamp(-127.0, 127.0) as i8
        };
        codes.copy_from_slice(&pack_codes(8, &x.iter().enumerate().map(code).collect::<Vec<i8>>(), cols));
        scales.copy_from_slice(given);
    });
}
