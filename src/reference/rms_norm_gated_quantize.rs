//! Gated norm over groups of columns, Hadamard transform of runs of columns, int8 codes; in f32 in between. Dao & Gu 2024,
//! arXiv:2405.21060; Ashkboos et al. 2024, arXiv:2404.00456; Yao et al. 2022, arXiv:2206.01861.

use super::hadamard::runs;
use super::quantize_tokens::quantize_rows;
use super::rms_norm_gated::of_floats;
use crate::shaders::{
    hadamard, rms_norm_gated,
    rms_norm_gated_quantize::{Format, Params},
};
use crate::tensor::unpack_halves;

/// `y`: `[rows, cols]`, f32 or f16; `gate`: `[rows, gate_stride]`; `weight`: `[cols]`; `codes`: `[rows, cols]` int8; `scales`:
/// `[rows, ceil(cols / group)]`.
pub fn rms_norm_gated_quantize(
    p: &Params,
    format: Format,
    y: &[u32],
    gate: &[f32],
    weight: &[f32],
    codes: &mut [u32],
    scales: &mut [f32],
) {
    let norm = rms_norm_gated::Params {
        rows: p.rows,
        groups: p.cols / p.norm_group,
        group_size: p.norm_group,
        gate_stride: p.gate_stride,
        gate_offset: p.gate_offset,
        eps: p.eps,
    };
    let halves =
        matches!(format, Format::HalfShort | Format::HalfShortNorms | Format::HalfLong | Format::HalfLongNorms);
    let y = if halves { unpack_halves(y) } else { bytemuck::cast_slice(y).to_vec() };
    let mut normed = vec![0.0; y.len()];
    of_floats(&norm, &y, gate, weight, &mut normed);
    let mut rotated = vec![0.0; y.len()];
    let transform = hadamard::Params { count: p.rows * p.cols, log_run: p.log_run, scale: p.unit };
    runs(&transform, &normed, &mut rotated);
    quantize_rows(&rotated, p.cols as usize, p.group as usize, codes, scales);
}
