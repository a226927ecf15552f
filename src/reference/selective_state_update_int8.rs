//! One token on a stored state: `y = exp(L) S C + Σ_j exp(L - L_j) (B_j · C) x_j + D x`, with the new token appended to
//! the recent ones. Dao & Gu 2024, arXiv:2405.21060.

use super::chunk_cumsum::step;
use super::dot;
use super::hash::sign_at;
use super::ssm_load::recent_tokens;
use crate::hadamard::walsh_hadamard;
use crate::pack::unpack_codes;
use crate::shaders::selective_state_update_int8::{Format, Params};

/// `xbc`: `[sequences, heads · head_dim + 2 groups · state]`; `dt_raw`: `[sequences, stride]` from column `offset`;
/// `per_head`: `[3, heads]`, dt_bias, a_log and d; `codes`: `[sequences · heads · head_dim, state]` int8; `scales`:
/// `[sequences · heads · head_dim]`; `clock`: `[2]`; `recent`: `[sequences · window, heads + heads · head_dim + groups ·
/// state]`; `y`: `[sequences, heads · head_dim]`.
#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
pub fn selective_state_update_int8(
    p: &Params,
    _format: Format,
    xbc: &[f32],
    dt_raw: &[f32],
    per_head: &[f32],
    codes: &[u32],
    scales: &[f32],
    clock: &[u32],
    recent: &mut [f32],
    y: &mut [f32],
) {
    let (rows, state) = ((p.heads * p.head_dim) as usize, p.state as usize);
    let last = clock[1].min(p.window - 1) as usize;
    let tokens = recent.len() / p.sequences as usize;
    let all = xbc.chunks_exact(rows + 2 * p.groups as usize * state).zip(dt_raw.chunks_exact(p.stride as usize));
    let all = all.zip(codes.chunks_exact(rows * state / 4)).zip(scales.chunks_exact(rows));
    for ((((xbc, dt_raw), codes), scales), (recent, y)) in
        all.zip(recent.chunks_exact_mut(tokens).zip(y.chunks_exact_mut(rows)))
    {
        of_sequence(p, xbc, dt_raw, per_head, (codes, scales), last, recent, y);
    }
}

#[expect(clippy::too_many_arguments, reason = "one argument a binding")]
fn of_sequence(
    p: &Params,
    xbc: &[f32],
    dt_raw: &[f32],
    per_head: &[f32],
    (codes, scales): (&[u32], &[f32]),
    last: usize,
    recent: &mut [f32],
    y: &mut [f32],
) {
    let (heads, head_dim) = (p.heads as usize, p.head_dim as usize);
    let (groups, state) = (p.groups as usize, p.state as usize);
    let rows = heads * head_dim;
    let codes = unpack_codes(8, codes, state);
    let (old, new) = recent.split_at_mut(last * (heads + rows + groups * state));
    let old = recent_tokens(old, heads, rows, groups * state, last);
    let (new_logs, new) = new.split_at_mut(heads);
    let (new_x, new_b) = new.split_at_mut(rows);
    new_b[..groups * state].copy_from_slice(&xbc[rows..][..groups * state]);
    for h in 0..heads {
        let group = h / (heads / groups) * state;
        let dt = step(dt_raw[p.offset as usize + h], per_head[h], p.dt_min, p.dt_max);
        let before = old.last().map_or(0.0, |t| f64::from(t.logs[h]));
        let now = before - f64::from(per_head[heads + h]).exp() * dt;
        new_logs[h] = now as f32;
        let b = &xbc[rows + group..][..state];
        let c = &xbc[rows + groups * state + group..][..state];
        let turned = turned(c, p.block as usize);
        let weights: Vec<f64> =
            old.iter().map(|t| (now - f64::from(t.logs[h])).exp() * dot(&t.b[group..][..state], c)).collect();
        let own = dt * dot(b, c) + f64::from(per_head[2 * heads + h]);
        for row in h * head_dim..(h + 1) * head_dim {
            let row_codes: Vec<f64> = codes[row * state..][..state].iter().map(|c| f64::from(*c)).collect();
            let stored = now.exp() * f64::from(scales[row]) * dot(&row_codes, &turned);
            let since: f64 = old.iter().zip(&weights).map(|(t, w)| w * f64::from(t.x[row])).sum();
            let x = f64::from(xbc[row]);
            y[row] = (stored + since + own * x) as f32;
            new_x[row] = (dt * x) as f32;
        }
    }
}

/// `H D c / sqrt(block)` over runs of `block`.
fn turned(c: &[f32], block: usize) -> Vec<f64> {
    let scale = (block as f64).sqrt().recip();
    let mut values: Vec<f64> =
        c.iter().enumerate().map(|(n, c)| sign_at(n, block as u32) * f64::from(*c) * scale).collect();
    values.chunks_exact_mut(block).for_each(walsh_hadamard);
    values
}
