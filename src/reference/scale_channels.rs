//! `out = x * scale`, one scale a column. Xiao et al. 2022, arXiv:2211.10438.

use crate::shaders::scale_channels::Params;

/// `x`, `out`: `[rows, cols]`; `scale`: `[cols]`.
pub fn scale_channels(p: &Params, x: &[f32], scale: &[f32], out: &mut [f32]) {
    let cols = p.cols as usize;
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        for ((out, x), s) in out.iter_mut().zip(x).zip(scale) {
            *out = x * s;
        }
    }
}
