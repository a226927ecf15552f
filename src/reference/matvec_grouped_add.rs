//! A product of few tokens in groups of 32 columns added to the residual stream, and codes of that for the next norm.

use super::grouped_rows::put_codes;
use super::matvec_grouped::matvec_grouped;
use crate::shaders::matvec_grouped as product;
use crate::shaders::matvec_grouped_add::{Format, Params};

/// Inputs as of [`matvec_grouped`]; `norm`: `[n]`; `stream`: `[tokens, n]`, added to; `out_codes`: `[tokens, n]` int8; `out_scales`:
/// `[2, tokens · n / 32]`.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn matvec_grouped_add(
    p: &Params,
    format: Format,
    codes: &[u32],
    scales: &[f32],
    weight: &[u32],
    weight_scales: &[u32],
    norm: &[f32],
    stream: &mut [f32],
    out_codes: &mut [u32],
    out_scales: &mut [f32],
) {
    let Params { tokens, n, k, group, scale_bits, norm_group, eps } = *p;
    let of = product::Params { tokens, n, k, group, scale_bits, norm_group, eps };
    let bits = if format == Format::Int8 { product::Format::Int8 } else { product::Format::Int4 };
    let mut y = vec![0.0; (tokens * n) as usize];
    matvec_grouped(&of, bits, codes, scales, weight, weight_scales, &mut y);
    for (sum, y) in stream.iter_mut().zip(&y) {
        *sum += y;
    }
    let weighted: Vec<f32> = stream.iter().zip(norm.iter().cycle()).map(|(v, w)| v * w).collect();
    put_codes(&weighted, stream, out_codes, out_scales);
}
