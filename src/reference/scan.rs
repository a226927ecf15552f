//! The Mamba-2 recurrence token by token: what the chunked kernels together must equal. Not a kernel.

/// Inputs of [`selective_scan`]; head `h` uses group `h / (heads / groups)`.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Heads.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Groups of B and C.
    pub groups: usize,
    /// State elements of a channel.
    pub state: usize,
    /// `[tokens, heads · head_dim + 2 groups · state]`, columns x | B | C.
    pub xbc: &'a [f32],
    /// `[tokens, heads]`, before bias and softplus.
    pub dt_raw: &'a [f32],
    /// `[heads]`.
    pub dt_bias: &'a [f32],
    /// `[heads]`; A = -exp(a_log).
    pub a_log: &'a [f32],
    /// `[heads]`.
    pub d: &'a [f32],
    /// Range dt is clamped to.
    pub dt_limit: (f32, f32),
}

/// `S = exp(dt A) S + dt x Bᵀ`, `y = S C + D x` for one token after another, in f64.
/// Dao & Gu 2024, arXiv:2405.21060, equation 1.
///
/// `ssm_state`: `[heads, head_dim · state]`, updated. Returns y, `[tokens, heads · head_dim]`.
pub fn selective_scan(s: &Scan<'_>, ssm_state: &mut [f64]) -> Vec<f64> {
    let Scan { heads, head_dim, groups, state, .. } = *s;
    let d_inner = heads * head_dim;
    let mut y = Vec::with_capacity(s.dt_raw.len() * head_dim);
    for (xbc, raw) in s.xbc.chunks_exact(d_inner + 2 * groups * state).zip(s.dt_raw.chunks_exact(heads)) {
        for (i, row) in ssm_state.chunks_exact_mut(state).enumerate() {
            let h = i / head_dim;
            let g = h / (heads / groups);
            let dt = super::chunk_cumsum::step(raw[h], s.dt_bias[h], s.dt_limit.0, s.dt_limit.1);
            let decay = (-f64::from(s.a_log[h]).exp() * dt).exp();
            let x = f64::from(xbc[i]);
            let b = &xbc[d_inner + g * state..][..state];
            let c = &xbc[d_inner + (groups + g) * state..][..state];
            let mut sum = f64::from(s.d[h]) * x;
            for ((s, b), c) in row.iter_mut().zip(b).zip(c) {
                *s = decay * *s + dt * x * f64::from(*b);
                sum += *s * f64::from(*c);
            }
            y.push(sum);
        }
    }
    y
}
