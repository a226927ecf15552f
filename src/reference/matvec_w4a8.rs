//! `out[i, j] = scales[i] · Σ_g weight_scales[j, g] · Σ_{c in group g} codes[i, c] · weight[j, c]`, the inner sum in
//! int32, then the epilogue. Lin et al. 2024, arXiv:2405.04532. One token: `m` = 1.

use super::matmul::{Product, codes_of_row, grouped_dot, token_codes};
use crate::shaders::matvec_w4a8::Params;

/// `codes`: `[m, k]` int8; `scales`: `[m]`; `weight`: `[n, k]` int4; `weight_scales`: `[n, groups]`; `out`: `[m, n]`.
pub fn matvec_w4a8(p: &Params, codes: &[u32], scales: &[f32], weight: &[u32], weight_scales: &[f32], out: &mut [f32]) {
    let (k, group) = (p.k as usize, p.group as usize);
    let groups = k.div_ceil(group);
    let product = Product { n: p.n, k: p.k, epilogue: p.epilogue };
    let sum = |i: usize, j: usize, x: &[i16], w: &[i16]| {
        f64::from(scales[i]) * grouped_dot(x, w, group, &weight_scales[j * groups..][..groups])
    };
    product.run(&token_codes(codes, k), |j, row| codes_of_row(4, weight, j, row), sum, out);
}
