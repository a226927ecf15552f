//! `out = x σ(scale x)`, one scale a column. MambaQuant, arXiv:2501.13484, section 4.2.

use crate::shaders::s_silu::Params;

/// `x`, `out`: `[rows, cols]`; `scale`: `[cols]`.
pub fn s_silu(p: &Params, x: &[f32], scale: &[f32], out: &mut [f32]) {
    let cols = p.cols as usize;
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        for ((out, x), s) in out.iter_mut().zip(x).zip(scale) {
            let (x, s) = (f64::from(*x), f64::from(*s));
            *out = (x / (1.0 + (-s * x).exp())) as f32;
        }
    }
}
