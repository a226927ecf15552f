//! Symmetric int8 codes of each group of a row: `scale = max|x| / 127`, `code = round(x / scale)`, ties to even, within
//! ±127. Yao et al. 2022, arXiv:2206.01861; by groups, Zhao et al. 2023, arXiv:2310.19102. Scales of groups are rounded up to
//! [`GROUP_SCALE_BITS`].

use rayon::prelude::*;

use crate::pack::{pack_codes, words_per_row};
use crate::shaders::quantize_tokens::{Format, Params};

/// Significant bits of a scale where a row has several: an int8 code times it has the 11 that an f16 has, so that matrix
/// units take such codes ([`crate::kernels::ScaleBits`]).
pub const GROUP_SCALE_BITS: u32 = 4;

/// The smallest scale of [`GROUP_SCALE_BITS`] that is not below `scale`, which is positive and normal.
#[must_use]
pub fn group_scale(scale: f32) -> f32 {
    let rest = (1u32 << (f32::MANTISSA_DIGITS - GROUP_SCALE_BITS)) - 1;
    f32::from_bits((scale.to_bits() + rest) & !rest)
}

/// `x`: `[rows, cols]`; `codes`: `[rows, cols]` int8; `scales`: `[rows, ceil(cols / group)]`. A row whose largest value
/// is below 1e-35 has scale 1 and codes 0, a group of one a scale below 1e-36 and codes 0. Where a value is not finite, neither is the
/// scale.
pub fn quantize_tokens(p: &Params, _: Format, x: &[f32], codes: &mut [u32], scales: &mut [f32]) {
    quantize_rows(x, p.cols as usize, p.group as usize, codes, scales);
}

/// The same for other kernels that end with it.
pub(super) fn quantize_rows(x: &[f32], cols: usize, group: usize, codes: &mut [u32], scales: &mut [f32]) {
    let words = words_per_row(8, cols);
    let scales = scales.par_chunks_exact_mut(cols.div_ceil(group));
    let rows = x.par_chunks_exact(cols).zip(codes.par_chunks_exact_mut(words)).zip(scales);
    rows.for_each(|((x, codes), scales)| {
        let quantized = if group < cols { in_groups } else { |x: &[f32], scale: &mut f32| quantized(x, 127.0, scale) };
        let groups = x.chunks(group).zip(scales).flat_map(|(x, scale)| quantized(x, scale));
        codes.copy_from_slice(&pack_codes(8, &groups.collect::<Vec<i8>>(), cols));
    });
}

/// One row's codes of groups, be it a single one.
pub(super) fn group_codes(x: &[f32], group: usize, codes: &mut [u32], scales: &mut [f32]) {
    let groups = x.chunks(group).zip(scales).flat_map(|(x, scale)| in_groups(x, scale));
    codes.copy_from_slice(&pack_codes(8, &groups.collect::<Vec<i8>>(), x.len()));
}

/// Below, a scale or its inverse would leave the range of normal floats.
const SMALLEST: f32 = 1e-35;

/// The largest magnitude, of NaN infinity: codes of what is no number have a scale that is none.
pub(super) fn largest(x: &[f32]) -> f32 {
    x.iter().fold(0.0f32, |m, v| if v.is_nan() { f32::INFINITY } else { m.max(v.abs()) })
}

/// The codes of one of a row's groups, and its scale.
fn in_groups(x: &[f32], scale: &mut f32) -> Vec<i8> {
    let largest = largest(x);
    *scale = group_scale(largest.max(SMALLEST) * (1.0 / 127.0));
    if largest < SMALLEST { vec![0; x.len()] } else { codes(x, 127.0, *scale) }
}

/// The codes of what has one scale within ±`top`, and that scale.
pub(super) fn quantized(x: &[f32], top: f32, scale: &mut f32) -> Vec<i8> {
    codes_under(largest(x), x, top, scale)
}

/// Likewise, where the largest magnitude is known.
pub(super) fn codes_under(largest: f32, x: &[f32], top: f32, scale: &mut f32) -> Vec<i8> {
    if largest < SMALLEST {
        *scale = 1.0;
        return vec![0; x.len()];
    }
    *scale = largest * (1.0 / top);
    codes(x, top, *scale)
}

fn codes(x: &[f32], top: f32, scale: f32) -> Vec<i8> {
    let (top, scale) = (f64::from(top), f64::from(scale));
    x.iter().map(|v| (f64::from(*v) / scale).round_ties_even().clamp(-top, top) as i8).collect()
}
