//! The stored form of what a stored state and the tokens since are together: as loaded and stored again.

use super::{ssm_load, ssm_store};
use crate::pack::words_per_row;
use crate::shaders::ssm_round::{Format, Params};
use crate::shaders::{ssm_load as load, ssm_store as store};

/// `clock`: `[2]`; `recent`: `[sequences · window, heads + heads · head_dim + groups · state]`; `codes`: `[sequences · heads ·
/// head_dim, state]` int8; `scales`: `[sequences · heads · head_dim]`; `errors`: as `codes` in int4, where kept.
pub fn ssm_round(
    p: &Params,
    format: Format,
    clock: &[u32],
    recent: &[f32],
    codes: &mut [u32],
    scales: &mut [f32],
    errors: &mut [u32],
) {
    let (rows, state) = ((p.heads * p.head_dim) as usize, p.state as usize);
    let all = p.sequences as usize * rows;
    let mut values = vec![0.0; all * state];
    let from = load::Params {
        heads: p.heads,
        head_dim: p.head_dim,
        groups: p.groups,
        state: p.state,
        block: p.block,
        window: p.window,
        feedback: p.feedback,
    };
    let lost = rows * words_per_row(4, state);
    for (i, values) in values.chunks_exact_mut(rows * state).enumerate() {
        let recent = &recent[i * recent.len() / p.sequences as usize..][..recent.len() / p.sequences as usize];
        let errors = if p.feedback > 0 { &errors[i * lost..][..lost] } else { &errors[..0] };
        let (codes, scales) = (&codes[i * rows * state / 4..][..rows * state / 4], &scales[i * rows..][..rows]);
        ssm_load::ssm_load(&from, codes, scales, recent, clock, errors, values);
    }
    let to = store::Params { rows: all as u32, state: p.state, block: p.block, seed: p.seed, feedback: p.feedback };
    let format = match format {
        Format::Nearest | Format::Quads => store::Format::Nearest,
        Format::Stochastic | Format::QuadsStochastic => store::Format::Stochastic,
    };
    ssm_store::ssm_store(&to, format, &values, clock, codes, scales, errors);
}
