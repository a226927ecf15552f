//! `y[l] = exp(da[l]) C[l]·S + Σ_{s ≤ l} (C[l]·B[s]) exp(da[l] - da[s]) dt[s] x[s] + D x[l]` within each chunk, `S`
//! the state that enters it. Dao & Gu 2024, arXiv:2405.21060, section 6.

use rayon::prelude::*;

use super::chunk_products::PART;
use super::dot;
use super::hadamard::finite_halves;
use crate::shaders::chunk_scan::{Format, Params};
use crate::tensor::unpack_halves;

/// `xbc`: `[tokens, heads · head_dim + 2 groups · state]`; `products`: `C[l]·B[s]`, `[tokens, groups · chunk]`, each
/// chunk in whole 16 bytes; `dt`, `da_cumsum`: `[heads, tokens]`;
/// `entering`: `[chunks, heads · head_dim · state]`; `d`: `[heads]`; `y`: `[tokens, heads · head_dim]`. `xbc`, `products` (a 64th of
/// each), `entering` and `y` may be f16.
#[allow(clippy::too_many_arguments, reason = "parameters, format and bindings")]
pub fn chunk_scan(
    p: &Params,
    format: Format,
    xbc: &[u32],
    products: &[u32],
    dt: &[f32],
    da_cumsum: &[f32],
    entering: &[u32],
    d: &[f32],
    y: &mut [u32],
) {
    if matches!(format, Format::Half | Format::HalfBlocks) {
        let products: Vec<f32> = unpack_halves(products).iter().map(|v| v * PART).collect();
        let mut values = vec![0.0; 2 * y.len()];
        of_floats(p, 8, &unpack_halves(xbc), &products, dt, da_cumsum, &unpack_halves(entering), d, &mut values);
        return finite_halves(values.into_iter(), y);
    }
    let [xbc, products, entering] = [xbc, products, entering].map(bytemuck::cast_slice);
    of_floats(p, 4, xbc, products, dt, da_cumsum, entering, d, bytemuck::cast_slice_mut(y));
}

/// Of f32, products of a chunk in whole `unit`s.
#[allow(clippy::too_many_arguments, reason = "parameters and bindings")]
fn of_floats(
    p: &Params,
    unit: usize,
    xbc: &[f32],
    products: &[f32],
    dt: &[f32],
    da_cumsum: &[f32],
    entering: &[f32],
    d: &[f32],
    y: &mut [f32],
) {
    let (tokens, heads, head_dim) = (p.tokens as usize, p.heads as usize, p.head_dim as usize);
    let (groups, state) = (p.groups as usize, p.state as usize);
    let d_inner = heads * head_dim;
    let row = |t: usize| &xbc[t * (d_inner + 2 * groups * state)..][..d_inner + 2 * groups * state];
    let width = (p.chunk as usize).next_multiple_of(unit);
    y.par_chunks_mut(d_inner).enumerate().for_each(|(l, y)| {
        let chunk = l / p.chunk as usize;
        let first = chunk * p.chunk as usize;
        for (h, y) in y.chunks_exact_mut(head_dim).enumerate() {
            let g = h / (heads / groups);
            let c = &row(l)[d_inner + (groups + g) * state..][..state];
            let products = &products[(l * groups + g) * width..][..width];
            let decay = |t: usize| f64::from(da_cumsum[h * tokens + t]);
            let x = |t: usize| &row(t)[h * head_dim..][..head_dim];
            let entering = &entering[(chunk * d_inner + h * head_dim) * state..][..head_dim * state];
            let grown = decay(l).exp();
            let mut sums: Vec<f64> = entering.chunks_exact(state).map(|s| grown * dot(c, s)).collect();
            for s in first..=l {
                let weight =
                    f64::from(products[s - first]) * (decay(l) - decay(s)).exp() * f64::from(dt[h * tokens + s]);
                sums.iter_mut().zip(x(s)).for_each(|(sum, x)| *sum += weight * f64::from(*x));
            }
            for ((y, sum), x) in y.iter_mut().zip(sums).zip(x(l)) {
                *y = (sum + f64::from(d[h]) * f64::from(*x)) as f32;
            }
        }
    });
}
