//! Gated norm of one token, Hadamard transform of runs of columns, int8 codes, and their product with a weight. Dao & Gu
//! 2024, arXiv:2405.21060; Ashkboos et al. 2024, arXiv:2404.00456.

use super::made_token::Weight;
use super::rms_norm_gated_quantize::rms_norm_gated_quantize;
use crate::shaders::{
    rms_norm_gated_matvec::{Format, Params},
    rms_norm_gated_quantize,
};

/// `y`: `[1, cols]` f32; `gate`: columns from `gate_offset` on; `norm`: `[cols]`; `weight`: `[n, cols]` int4 or int8; `weight_scales`:
/// `[n, groups]`; `out`: `[1, n]`.
#[allow(clippy::too_many_arguments, reason = "parameters, format and bindings")]
pub fn rms_norm_gated_matvec(
    p: &Params,
    format: Format,
    y: &[u32],
    gate: &[f32],
    norm: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    out: &mut [f32],
) {
    let (mut codes, mut scales) = (vec![0; y.len().div_ceil(4)], vec![0.0; p.cols.div_ceil(p.x_group) as usize]);
    let of = rms_norm_gated_quantize::Params {
        rows: 1,
        cols: p.cols,
        norm_group: p.norm_group,
        group: p.x_group,
        gate_stride: gate.len() as u32,
        gate_offset: p.gate_offset,
        eps: p.eps,
        log_run: p.log_run,
        unit: p.unit,
    };
    rms_norm_gated_quantize(&of, rms_norm_gated_quantize::Format::Short, y, gate, norm, &mut codes, &mut scales);
    let bits = if format == Format::Int4 { 4 } else { 8 };
    let Params { n, cols, group, scale_bits, x_group, epilogue, .. } = *p;
    Weight { n, cols, group, scale_bits, x_group, epilogue, bits, codes: weight, scales: weight_scales }
        .times(&codes, &scales, out);
}
