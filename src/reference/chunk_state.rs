//! `states[c, h, p, n] = Σ_{l in chunk c} exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]`.
//! Dao & Gu 2024, arXiv:2405.21060, section 6.

use rayon::prelude::*;

use crate::shaders::chunk_state::{Format, Params};

/// `xbc`: `[tokens, heads · head_dim + 2 groups · state]`; `dt`, `da_cumsum`: `[heads, tokens]`;
/// `states`: `[chunks, heads · head_dim · state]`.
pub fn chunk_state(p: &Params, _: Format, xbc: &[f32], dt: &[f32], da_cumsum: &[f32], states: &mut [f32]) {
    let (tokens, heads, head_dim) = (p.tokens as usize, p.heads as usize, p.head_dim as usize);
    let (groups, state) = (p.groups as usize, p.state as usize);
    let d_inner = heads * head_dim;
    let stride = d_inner + 2 * groups * state;
    states.par_chunks_mut(head_dim * state).enumerate().for_each(|(i, out)| {
        let (chunk, h) = (i / heads, i % heads);
        let first = chunk * p.chunk as usize;
        let end = (first + p.chunk as usize).min(tokens);
        let (dt, da) = (&dt[h * tokens..][..end], &da_cumsum[h * tokens..][..end]);
        let mut sums = vec![0.0f64; out.len()];
        for l in first..end {
            let weight = (f64::from(da[end - 1]) - f64::from(da[l])).exp() * f64::from(dt[l]);
            let x = &xbc[l * stride + h * head_dim..][..head_dim];
            let b = &xbc[l * stride + d_inner + h / (heads / groups) * state..][..state];
            for (row, x) in sums.chunks_exact_mut(state).zip(x) {
                let x = weight * f64::from(*x);
                row.iter_mut().zip(b).for_each(|(sum, b)| *sum += x * f64::from(*b));
            }
        }
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
    });
}
