//! RMS norm of one token, int8 codes of it, and their product with a weight. Zhang & Sennrich 2019, arXiv:1910.07467.

use super::made_token::Weight;
use super::rms_norm_quantize::rms_norm_quantize;
use crate::shaders::{
    rms_norm_matvec::{Format, Params},
    rms_norm_quantize,
};

/// `x`: `[1, cols]`; `norm`: `[cols]`; `weight`: `[n, cols]` int4 or int8; `weight_scales`: `[n, groups]`; `out`: `[1, n]`.
pub fn rms_norm_matvec(
    p: &Params,
    format: Format,
    x: &[f32],
    norm: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    out: &mut [f32],
) {
    let (mut codes, mut scales) = (vec![0; x.len().div_ceil(4)], vec![0.0; p.cols.div_ceil(p.x_group) as usize]);
    let of = rms_norm_quantize::Params { rows: 1, cols: p.cols, group: p.x_group, eps: p.eps, slices: 0 };
    rms_norm_quantize(&of, rms_norm_quantize::Format::Whole, &[], norm, &mut x.to_vec(), &mut codes, &mut scales);
    let bits = if format == Format::Int4 { 4 } else { 8 };
    let Params { n, cols, group, scale_bits, x_group, epilogue, .. } = *p;
    Weight { n, cols, group, scale_bits, x_group, epilogue, bits, codes: weight, scales: weight_scales }
        .times(&codes, &scales, out);
}
