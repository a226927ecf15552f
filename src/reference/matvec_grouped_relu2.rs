//! A product of few tokens in groups of 32 columns, squared ReLU, and codes of that.

use super::grouped_rows::put_codes;
use super::hadamard::runs;
use super::matmul::relu_squared;
use super::matvec_grouped::matvec_grouped;
use crate::shaders::matvec_grouped_relu2::{Format, Params};
use crate::shaders::{hadamard, matvec_grouped as product};

/// Inputs as of [`matvec_grouped`]; `out_codes`: `[tokens, n]` int8; `out_scales`: `[2, tokens · n / 32]`.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn matvec_grouped_relu2(
    p: &Params,
    format: Format,
    codes: &[u32],
    scales: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    out_codes: &mut [u32],
    out_scales: &mut [f32],
) {
    let Params { tokens, n, k, group, scale_bits, norm_group, eps, .. } = *p;
    let of = product::Params { tokens, n, k, group, scale_bits, norm_group, eps };
    let bits = if format == Format::Int4 { product::Format::Int4 } else { product::Format::Int8 };
    let mut y = vec![0.0; (tokens * n) as usize];
    matvec_grouped(&of, bits, codes, scales, weight, weight_scales, &mut y);
    y.iter_mut().for_each(|v| *v = relu_squared(f64::from(*v)) as f32);
    let mut rotated = vec![0.0; y.len()];
    runs(&hadamard::Params { count: n, log_run: p.log_run, scale: p.unit }, &y, &mut rotated);
    put_codes(&rotated, &y, out_codes, out_scales);
}
