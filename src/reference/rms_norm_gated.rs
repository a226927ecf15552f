//! `v = y * silu(z); out = v / sqrt(mean(v²) + eps) * weight`, the mean over groups of columns.
//! Dao & Gu 2024, arXiv:2405.21060 (`norm_before_gate = False`).

use rayon::prelude::*;

use crate::shaders::rms_norm_gated::{Format, Params};
use crate::tensor::unpack_halves;

/// `y`, f32 or f16, and `out`: `[rows, groups * group_size]`; `gate`: `[rows, gate_stride]`; `weight`: `[groups * group_size]`.
pub fn rms_norm_gated(p: &Params, format: Format, y: &[u32], gate: &[f32], weight: &[f32], out: &mut [f32]) {
    match format {
        Format::Half => of_floats(p, &unpack_halves(y)[..out.len()], gate, weight, out),
        Format::F32 => of_floats(p, bytemuck::cast_slice(y), gate, weight, out),
    }
}

/// Of f32.
pub(super) fn of_floats(p: &Params, y: &[f32], gate: &[f32], weight: &[f32], out: &mut [f32]) {
    let (size, groups) = (p.group_size as usize, p.groups as usize);
    out.par_chunks_mut(size).zip(y.par_chunks(size)).enumerate().for_each(|(i, (out, y))| {
        let (row, column) = (i / groups, i % groups * size);
        let z = &gate[row * p.gate_stride as usize + p.gate_offset as usize + column..][..size];
        let v: Vec<f64> = y.iter().zip(z).map(|(y, z)| f64::from(*y) * silu(f64::from(*z))).collect();
        let mean = v.iter().map(|v| v * v).sum::<f64>() / size as f64;
        let scale = 1.0 / (mean + f64::from(p.eps)).sqrt();
        for ((out, v), w) in out.iter_mut().zip(v).zip(&weight[column..]) {
            *out = (v * scale * f64::from(*w)) as f32;
        }
    });
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}
