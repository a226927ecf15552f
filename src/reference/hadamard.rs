//! `out = scale * H x` over contiguous runs of `2^log_run` elements, `H[i, j] = (-1)^popcount(i & j)`.
//! Ashkboos et al. 2024 (QuaRot), arXiv:2404.00456.

use rayon::prelude::*;

use crate::shaders::hadamard::Params;

/// `x`, `out`: `[count]`, a multiple of the run.
pub fn hadamard(p: &Params, x: &[f32], out: &mut [f32]) {
    let run = 1 << p.log_run;
    x.par_chunks_exact(run).zip(out.par_chunks_exact_mut(run)).with_min_len(4096 / run).for_each(|(x, out)| {
        let mut v: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let mut half = 1;
        while half < run {
            for pair in v.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        for (out, v) in out.iter_mut().zip(v) {
            *out = (v * f64::from(p.scale)) as f32;
        }
    });
}
