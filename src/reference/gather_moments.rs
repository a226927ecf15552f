//! Means of second moments in a given order of their columns.

use rayon::prelude::*;

use crate::shaders::gather_moments::Params;

/// `own`, of which the upper half is there, `cross` and what both lost: `[n, n]`; `order`: `[n]`; `out`: `[n, n]`, or `[n]`.
pub fn gather_moments(
    p: &Params,
    own: &[f32],
    own_lost: &[f32],
    cross: &[f32],
    cross_lost: &[f32],
    order: &[u32],
    out: &mut [f32],
) {
    let n = p.n as usize;
    let sum = |totals: &[f32], lost: &[f32], e: usize| f64::from(totals[e]) + f64::from(lost[e]);
    out.par_chunks_exact_mut(n).enumerate().for_each(|(line, out)| {
        for (column, out) in out.iter_mut().enumerate() {
            let place = if p.diagonal == 1 { column } else { line };
            let (i, j) = (order[place] as usize, order[column] as usize);
            let own = sum(own, own_lost, i.min(j) * n + i.max(j));
            let value = if p.across == 1 { sum(cross, cross_lost, i * n + j) - own } else { own };
            let added = if place == column { f64::from(p.added) } else { 0.0 };
            *out = (value * f64::from(p.scale) + added) as f32;
        }
    });
}
