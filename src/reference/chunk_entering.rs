//! `entering[c] = S` before chunk `c`, then `S = exp(da[last of c]) S + Σ_{l in c} exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]`.
//! Dao & Gu 2024, arXiv:2405.21060.

use super::hadamard::finite_halves;
use crate::shaders::chunk_entering::{Format, Params};
use crate::shaders::{chunk_state, state_passing};
use crate::tensor::unpack_halves;

/// `xbc`: `[tokens, heads · head_dim + 2 groups · state]` f16; `dt`, `da_cumsum`: `[heads, tokens]`;
/// `ssm_state`: `[heads, head_dim · state]`; `entering`: `[chunks, heads · head_dim · state]` f16.
pub fn chunk_entering(
    p: &Params,
    _: Format,
    xbc: &[u32],
    dt: &[f32],
    da_cumsum: &[f32],
    ssm_state: &mut [f32],
    entering: &mut [u32],
) {
    let &Params { tokens, heads, head_dim, groups, state, chunk } = p;
    let mut states = vec![0.0; 2 * entering.len()];
    let added = chunk_state::Params { tokens, heads, head_dim, groups, state, chunk };
    super::chunk_state::chunk_state(&added, chunk_state::Format::Any, &unpack_halves(xbc), dt, da_cumsum, &mut states);
    let mut before = vec![0.0; states.len()];
    let passing = state_passing::Params { tokens, heads, head_dim, state, chunk };
    super::state_passing::state_passing(&passing, &states, da_cumsum, ssm_state, &mut before);
    finite_halves(before.into_iter(), entering);
}
