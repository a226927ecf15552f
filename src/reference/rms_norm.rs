//! `out = x / sqrt(mean(x²) + eps) * weight` over each row. Zhang & Sennrich 2019, arXiv:1910.07467.

use crate::shaders::rms_norm::Params;

/// `x`, `out`: `[rows, cols]`; `weight`: `[cols]`.
pub fn rms_norm(p: &Params, x: &[f32], weight: &[f32], out: &mut [f32]) {
    let cols = p.cols as usize;
    for (x, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
        let mean = x.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / cols as f64;
        let scale = 1.0 / (mean + f64::from(p.eps)).sqrt();
        for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
            *out = (f64::from(*x) * scale * f64::from(*w)) as f32;
        }
    }
}
