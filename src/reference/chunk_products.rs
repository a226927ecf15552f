//! `products[l, g, s] = C[l]·B[s]` of group `g` for the tokens `s ≤ l` of `l`'s chunk. Dao & Gu 2024, arXiv:2405.21060,
//! section 6.

use rayon::prelude::*;

use super::dot;
use super::hadamard::finite_halves;
use crate::shaders::chunk_products::{Format, Params};
use crate::tensor::unpack_halves;

/// What f16 products are a part of.
pub(super) const PART: f32 = 64.0;

/// `xbc`: `[tokens, heads · head_dim + 2 groups · state]`; `products`: `[tokens, groups · chunk]`, each chunk in whole
/// 16 bytes, `s` counted from its first token; 0 for later ones. f32, or both f16, of products a 64th.
pub fn chunk_products(p: &Params, format: Format, xbc: &[u32], products: &mut [u32]) {
    if format == Format::F32 {
        return of_floats(p, 4, bytemuck::cast_slice(xbc), bytemuck::cast_slice_mut(products));
    }
    let mut values = vec![0.0; 2 * products.len()];
    of_floats(p, 8, &unpack_halves(xbc), &mut values);
    finite_halves(values.iter().map(|v| v / PART), products);
}

/// Of f32, a chunk in whole `unit`s.
fn of_floats(p: &Params, unit: usize, xbc: &[f32], products: &mut [f32]) {
    let (groups, state, chunk) = (p.groups as usize, p.state as usize, p.chunk as usize);
    let d_inner = (p.heads * p.head_dim) as usize;
    let row = |t: usize| &xbc[t * (d_inner + 2 * groups * state)..][..d_inner + 2 * groups * state];
    let width = chunk.next_multiple_of(unit);
    products.par_chunks_mut(groups * width).enumerate().for_each(|(l, products)| {
        let first = l / chunk * chunk;
        for (g, products) in products.chunks_exact_mut(width).enumerate() {
            let c = &row(l)[d_inner + (groups + g) * state..][..state];
            for (i, product) in products.iter_mut().enumerate() {
                let b = (first + i <= l).then(|| &row(first + i)[d_inner + g * state..][..state]);
                *product = b.map_or(0.0, |b| dot(c, b) as f32);
            }
        }
    });
}
