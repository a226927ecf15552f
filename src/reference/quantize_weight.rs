//! `code = round(w / scale)`, ties to even, within ±127 (int8) or ±7 (int4). Jacob et al. 2017, arXiv:1712.05877.

use rayon::prelude::*;

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_weight::{Format, Params};

/// `w`: `[rows, cols]`; `scales`: `[rows, groups]`; `codes`: `[rows, cols]` of the format. Scale 0 gives code 0.
pub fn quantize_weight(p: &Params, format: Format, w: &[f32], scales: &[f32], codes: &mut [u32]) {
    let (bits, most) = match format {
        Format::Int8 => (8, 127.0),
        Format::Int4 => (4, 7.0),
    };
    let (cols, group) = (p.cols as usize, p.group as usize);
    let (groups, words) = (cols.div_ceil(group), words_per_row(bits, cols));
    let code = |w: f32, scale: f32| match scale {
        0.0 => 0,
        _ => (f64::from(w) / f64::from(scale)).round_ties_even().clamp(-most, most) as i8,
    };
    let rows = w.par_chunks_exact(cols).zip(scales.par_chunks_exact(groups)).zip(codes.par_chunks_exact_mut(words));
    rows.for_each(|((w, scales), codes)| {
        let row: Vec<i8> = w.iter().enumerate().map(|(c, w)| code(*w, scales[c / group])).collect();
        codes.copy_from_slice(&pack_codes(bits, &row, cols));
    });
}
