//! RMS norm and int8 codes of what it gives, in f32 in between. Zhang & Sennrich 2019, arXiv:1910.07467; Yao et al. 2022,
//! arXiv:2206.01861.

use super::quantize_tokens::quantize_rows;
use super::rms_norm::rms_norm;
use super::split_k_reduce::split_k_reduce;
use crate::shaders::{
    rms_norm,
    rms_norm_quantize::{Format, Params},
    split_k_reduce,
};

/// `x`: `[rows, cols]`; `sums`: `[slices, rows, cols]`; `weight`: `[cols]`; `codes`: `[rows, cols]` int8; `scales`: `[rows, ceil(cols / group)]`.
pub fn rms_norm_quantize(
    p: &Params,
    _: Format,
    sums: &[f32],
    weight: &[f32],
    x: &mut [f32],
    codes: &mut [u32],
    scales: &mut [f32],
) {
    if p.slices > 0 {
        const ADD: u32 = 2;
        let Params { rows: m, cols: n, slices, .. } = *p;
        split_k_reduce(&split_k_reduce::Params { m, n, slices, epilogue: ADD, out_stride: n, out_first: 0 }, sums, x);
    }
    let mut normed = vec![0.0; x.len()];
    rms_norm(&rms_norm::Params { rows: p.rows, cols: p.cols, eps: p.eps }, x, weight, &mut normed);
    quantize_rows(&normed, p.cols as usize, p.group as usize, codes, scales);
}
