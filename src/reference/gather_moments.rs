//! Means of second moments in a given order of their columns.

use rayon::prelude::*;

use crate::shaders::gather_moments::Params;

/// `totals`: `[n, n]`, of which the upper half is there; `order`: `[n]`; `out`: `[n, n]`, or `[n]`.
pub fn gather_moments(p: &Params, totals: &[f32], order: &[u32], out: &mut [f32]) {
    let n = p.n as usize;
    out.par_chunks_exact_mut(n).enumerate().for_each(|(line, out)| {
        for (column, out) in out.iter_mut().enumerate() {
            let place = if p.diagonal == 1 { column } else { line };
            let (i, j) = (order[place] as usize, order[column] as usize);
            let sum = f64::from(totals[i.min(j) * n + i.max(j)]);
            let added = if place == column { f64::from(p.added) } else { 0.0 };
            *out = (sum * f64::from(p.scale) + added) as f32;
        }
    });
}
