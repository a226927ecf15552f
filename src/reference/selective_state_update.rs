//! One token of each sequence: `S = exp(dt A) S + dt x Bᵀ`, `y = S C + D x`. Dao & Gu 2024, arXiv:2405.21060.

use super::chunk_cumsum::step;
use crate::shaders::selective_state_update::Params;

/// `xbc`: `[sequences, heads · head_dim + 2 groups · state]`; `dt_raw`: `[sequences, stride]` from column `offset`;
/// `dt_bias`, `a_log`, `d`: `[heads]`; `ssm_state`: `[sequences · heads, head_dim · state]`;
/// `y`: `[sequences, heads · head_dim]`.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn selective_state_update(
    p: &Params,
    xbc: &[f32],
    dt_raw: &[f32],
    dt_bias: &[f32],
    a_log: &[f32],
    d: &[f32],
    ssm_state: &mut [f32],
    y: &mut [f32],
) {
    let (heads, head_dim) = (p.heads as usize, p.head_dim as usize);
    let (groups, state) = (p.groups as usize, p.state as usize);
    let d_inner = heads * head_dim;
    for (i, (row, y)) in ssm_state.chunks_exact_mut(state).zip(y).enumerate() {
        let (sequence, i) = (i / d_inner, i % d_inner);
        let xbc = &xbc[sequence * (d_inner + 2 * groups * state)..];
        let dt_raw = &dt_raw[sequence * p.stride as usize..];
        let h = i / head_dim;
        let g = h / (heads / groups);
        let dt = step(dt_raw[p.offset as usize + h], dt_bias[h], p.dt_min, p.dt_max);
        let decay = (-f64::from(a_log[h]).exp() * dt).exp();
        let x = f64::from(xbc[i]);
        let b = &xbc[d_inner + g * state..][..state];
        let c = &xbc[d_inner + (groups + g) * state..][..state];
        let mut sum = 0.0;
        for ((s, b), c) in row.iter_mut().zip(b).zip(c) {
            let value = decay * f64::from(*s) + dt * x * f64::from(*b);
            *s = value as f32;
            sum += value * f64::from(*c);
        }
        *y = (sum + f64::from(d[h]) * x) as f32;
    }
}
