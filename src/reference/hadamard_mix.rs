//! `out = scale * H x` for a dense matrix of signs that mixes the middle axis of `x`.

use rayon::prelude::*;

use crate::shaders::hadamard_mix::{Format, Params};

/// `x`, `out`: `[outer, order, stride]`; `signs`: `[order, order / 32]` words of 32 columns of a row (bits), 1
/// for -1.
pub fn hadamard_mix(p: &Params, _format: Format, x: &[f32], signs: &[u32], out: &mut [f32]) {
    let (order, stride) = (p.order as usize, p.stride as usize);
    let words = order.div_ceil(32);
    let negative = |row: usize, col: usize| signs[row * words + col / 32] >> (col % 32) & 1 == 1;
    let tasks = out.par_chunks_exact_mut(stride).enumerate().with_min_len(64usize.div_ceil(stride));
    tasks.for_each_init(Vec::new, |sums, (i, out)| {
        let (block, row) = (i / order, i % order);
        sums.clear();
        sums.resize(stride, 0.0f64);
        for (col, x) in x[block * order * stride..][..order * stride].chunks_exact(stride).enumerate() {
            let sign = if negative(row, col) { -1.0 } else { 1.0 };
            sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += sign * f64::from(*x));
        }
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = (*sum * f64::from(p.scale)) as f32;
        }
    });
}
