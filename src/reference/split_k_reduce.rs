//! Sums of slices of a product's columns, and the product's epilogue.

use super::matmul::finished;
use crate::shaders::split_k_reduce::Params;

/// `sums`: `[slices, m, n]`; `out`: `[m, out_stride]`.
pub fn split_k_reduce(p: &Params, sums: &[f32], out: &mut [f32]) {
    let (n, stride, first) = (p.n as usize, p.out_stride as usize, p.out_first as usize);
    let outputs = p.m as usize * n;
    for i in 0..outputs {
        let total = sums[i..].iter().step_by(outputs).take(p.slices as usize).map(|s| f64::from(*s)).sum();
        let out = &mut out[i / n * stride + first + i % n];
        *out = finished(p.epilogue, total, *out);
    }
}
