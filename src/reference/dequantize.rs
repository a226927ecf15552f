//! `out = code · scale` of the code's group.

use rayon::prelude::*;

use crate::pack::{unpack_codes, words_per_row};
use crate::shaders::dequantize::{Format, Params};

/// `codes`: `[rows, cols]` of the format; `scales`: `[rows, groups]`; `out`: `[rows, cols]`.
pub fn dequantize(p: &Params, format: Format, codes: &[u32], scales: &[f32], out: &mut [f32]) {
    let bits = match format {
        Format::Int8 => 8,
        Format::Int4 => 4,
    };
    let (cols, group) = (p.cols as usize, p.group as usize);
    let (groups, words) = (cols.div_ceil(group), words_per_row(bits, cols));
    let rows = codes.par_chunks_exact(words).zip(scales.par_chunks_exact(groups)).zip(out.par_chunks_exact_mut(cols));
    rows.for_each(|((codes, scales), out)| {
        for (c, (code, out)) in unpack_codes(bits, codes, cols).into_iter().zip(out).enumerate() {
            *out = f32::from(code) * scales[c / group];
        }
    });
}
