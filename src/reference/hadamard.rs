//! `out = scale * H x` over contiguous runs of `2^log_run` elements, `H[i, j] = (-1)^popcount(i & j)`.
//! Ashkboos et al. 2024 (QuaRot), arXiv:2404.00456.

use rayon::prelude::*;

use half::f16;

use crate::shaders::hadamard::{Format, Params};
use crate::tensor::unpack_halves;

/// `x`, `out`: `[count]` f32 or f16, a multiple of the run.
pub fn hadamard(p: &Params, format: Format, x: &[u32], out: &mut [u32]) {
    if format != Format::Halves {
        return runs(p, bytemuck::cast_slice(x), bytemuck::cast_slice_mut(out));
    }
    let count = p.count as usize;
    let mut y = vec![0.0; count];
    runs(p, &unpack_halves(x)[..count], &mut y);
    pack_halves(y.into_iter(), out);
}

/// Values as words of two f16 each.
fn pack_halves(values: impl Iterator<Item = f32>, words: &mut [u32]) {
    for (out, v) in bytemuck::cast_slice_mut::<u32, f16>(words).iter_mut().zip(values) {
        *out = f16::from_f32(v);
    }
}

/// Likewise; those beyond the range become the last in it.
pub(super) fn finite_halves(values: impl Iterator<Item = f32>, words: &mut [u32]) {
    pack_halves(values.map(|v| v.clamp(-65504.0, 65504.0)), words);
}

/// Of f32.
pub(super) fn runs(p: &Params, x: &[f32], out: &mut [f32]) {
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
