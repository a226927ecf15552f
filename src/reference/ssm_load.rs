//! A stored state as f32: the rounded state, turned back and decayed, and what the tokens since have added.
//! The state-space recurrence of Dao & Gu 2024, arXiv:2405.21060, summed.

use super::hash::sign_at;
use crate::hadamard::walsh_hadamard;
use crate::pack::unpack_codes;
use crate::shaders::ssm_load::Params;

/// One recent token: of all heads the sums of dt A, of all rows dt x, of all groups B.
pub(super) struct Recent<'a> {
    pub(super) logs: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) b: &'a [f32],
}

/// The first `tokens` of `recent`: rows of `heads + rows + groups · state` numbers.
pub(super) fn recent_tokens(recent: &[f32], heads: usize, rows: usize, width: usize, tokens: usize) -> Vec<Recent<'_>> {
    recent
        .chunks_exact(heads + rows + width)
        .take(tokens)
        .map(|token| {
            let (logs, rest) = token.split_at(heads);
            let (x, b) = rest.split_at(rows);
            Recent { logs, x, b }
        })
        .collect()
}

/// `codes`: `[heads · head_dim, state]` int8; `scales`: `[heads · head_dim]`; `recent`: `[window, heads + heads ·
/// head_dim + groups · state]`; `clock`: `[2]`; `errors`: `[heads · head_dim, state]` int4 where kept; `out`: `[heads, head_dim · state]`.
pub fn ssm_load(
    p: &Params,
    codes: &[u32],
    scales: &[f32],
    recent: &[f32],
    clock: &[u32],
    errors: &[u32],
    out: &mut [f32],
) {
    let (heads, head_dim) = (p.heads as usize, p.head_dim as usize);
    let (groups, state) = (p.groups as usize, p.state as usize);
    let codes = unpack_codes(8, codes, state);
    let lost = if p.feedback > 0 { unpack_codes(4, errors, state) } else { vec![0; codes.len()] };
    let tokens = clock[1].min(p.window) as usize;
    let tokens = recent_tokens(recent, heads, heads * head_dim, groups * state, tokens);
    let rows = out.chunks_exact_mut(state).zip(codes.chunks_exact(state)).zip(lost.chunks_exact(state));
    for (row, ((out, codes), lost)) in rows.enumerate() {
        let head = row / head_dim;
        let group = head / (heads / groups);
        let now = tokens.last().map_or(0.0, |t| f64::from(t.logs[head]));
        let scale = f64::from(scales[row]) * now.exp() / f64::from(p.block).sqrt();
        let steps = codes.iter().zip(lost).map(|(c, e)| f64::from(*c) + f64::from(*e) / 14.0);
        let mut values: Vec<f64> = steps.map(|v| v * scale).collect();
        values.chunks_exact_mut(p.block as usize).for_each(walsh_hadamard);
        values.iter_mut().enumerate().for_each(|(n, v)| *v *= sign_at(n, p.block));
        for token in &tokens {
            let x = (now - f64::from(token.logs[head])).exp() * f64::from(token.x[row]);
            let b = &token.b[group * state..][..state];
            values.iter_mut().zip(b).for_each(|(v, b)| *v += x * f64::from(*b));
        }
        out.iter_mut().zip(&values).for_each(|(out, v)| *out = *v as f32);
    }
}
