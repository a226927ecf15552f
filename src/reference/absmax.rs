//! `out[r, g]` = the largest `|x[r, c]|` of group g of consecutive columns.

use rayon::prelude::*;

use crate::shaders::absmax::Params;

/// `x`: `[rows, cols]`; `out`: `[rows, groups]`.
pub fn absmax(p: &Params, x: &[f32], out: &mut [f32]) {
    let groups = p.cols.div_ceil(p.group) as usize;
    x.par_chunks_exact(p.cols as usize).zip(out.par_chunks_exact_mut(groups)).for_each(|(x, out)| {
        for (x, out) in x.chunks(p.group as usize).zip(out) {
            *out = x.iter().fold(0.0, |m, v| m.max(v.abs()));
        }
    });
}
