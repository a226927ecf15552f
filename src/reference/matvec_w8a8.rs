//! `out[i, j] = scales[i] · Σ_g weight_scales[j, g] · Σ_{c in group g} codes[i, c] · weight[j, c]`, the inner sum in
//! int32, then the epilogue. Xiao et al. 2022, arXiv:2211.10438. One token: `m` = 1.

use super::matmul::{codes as codes_of, for_each, grouped_dot};
use crate::shaders::matvec_w8a8::Params;

/// `codes`: `[m, k]` int8; `scales`: `[m]`; `weight`: `[n, k]` int8; `weight_scales`: `[n, groups]`; `out`: `[m, n]`.
pub fn matvec_w8a8(p: &Params, codes: &[u32], scales: &[f32], weight: &[u32], weight_scales: &[f32], out: &mut [f32]) {
    let (n, k, group) = (p.n as usize, p.k as usize, p.group as usize);
    let groups = k.div_ceil(group);
    let (x, weight) = (codes_of(8, codes, k), codes_of(8, weight, k));
    for_each(p.epilogue, n, out, |i, j| {
        let of_row = &weight_scales[j * groups..][..groups];
        f64::from(scales[i]) * grouped_dot(&x[i * k..][..k], &weight[j * k..][..k], group, of_row)
    });
}
