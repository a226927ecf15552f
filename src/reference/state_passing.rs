//! `entering[c] = S` before chunk `c`, then `S = exp(da[last of c]) S + states[c]`. Dao & Gu 2024, arXiv:2405.21060.

use crate::shaders::state_passing::Params;

/// `states`, `entering`: `[chunks, heads · head_dim · state]`; `da_cumsum`: `[heads, tokens]`;
/// `ssm_state`: `[heads, head_dim · state]`.
pub fn state_passing(p: &Params, states: &[f32], da_cumsum: &[f32], ssm_state: &mut [f32], entering: &mut [f32]) {
    let (tokens, of_head) = (p.tokens as usize, (p.head_dim * p.state) as usize);
    let all = ssm_state.len();
    let mut current: Vec<f64> = ssm_state.iter().map(|s| f64::from(*s)).collect();
    for (c, (added, entering)) in states.chunks_exact(all).zip(entering.chunks_exact_mut(all)).enumerate() {
        let last = ((c + 1) * p.chunk as usize).min(tokens) - 1;
        for (i, s) in current.iter_mut().enumerate() {
            entering[i] = *s as f32;
            *s = f64::from(da_cumsum[i / of_head * tokens + last]).exp() * *s + f64::from(added[i]);
        }
    }
    ssm_state.iter_mut().zip(current).for_each(|(out, s)| *out = s as f32);
}
