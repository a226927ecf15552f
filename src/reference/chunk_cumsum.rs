//! `dt = clamp(softplus(raw + bias), dt_min, dt_max)` and the sums of `dt · -exp(a_log)` within chunks.
//! Dao & Gu 2024, arXiv:2405.21060.

use crate::shaders::chunk_cumsum::Params;

/// `dt_raw`: `[tokens, stride]` from column `offset`; `dt_bias`, `a_log`: `[heads]`;
/// `dt`, `da_cumsum`: `[heads, tokens]`.
pub fn chunk_cumsum(p: &Params, dt_raw: &[f32], dt_bias: &[f32], a_log: &[f32], dt: &mut [f32], da_cumsum: &mut [f32]) {
    let tokens = p.tokens as usize;
    for h in 0..p.heads as usize {
        let a = -f64::from(a_log[h]).exp();
        let mut sum = 0.0;
        for t in 0..tokens {
            let raw = dt_raw[t * p.stride as usize + p.offset as usize + h];
            let step = step(raw, dt_bias[h], p.dt_min, p.dt_max);
            sum = if t.is_multiple_of(p.chunk as usize) { step * a } else { sum + step * a };
            dt[h * tokens + t] = step as f32;
            da_cumsum[h * tokens + t] = sum as f32;
        }
    }
}

/// Step size dt: softplus is `ln(1 + e^x)`, which is `x` to f64 precision from 40 on.
pub(super) fn step(raw: f32, bias: f32, min: f32, max: f32) -> f64 {
    let x = f64::from(raw) + f64::from(bias);
    let softplus = if x > 40.0 { x } else { x.exp().ln_1p() };
    softplus.clamp(f64::from(min), f64::from(max))
}
