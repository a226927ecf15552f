//! PCG-RXS-M-XS, as a hash: Jarzynski & Olano 2020, jcgt.org/published/0009/03/02.

/// The twin of `shaders/shared/hash.wgsl`.
pub(super) fn hash(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}

/// Element `n` of the signs that a stored state is turned by: the twin of `sign_at` in `shaders/shared/fwht.wgsl`.
pub(super) fn sign_at(n: usize, block: u32) -> f64 {
    if block == 1 { 1.0 } else { 1.0 - 2.0 * f64::from(hash(n as u32) & 1) }
}
