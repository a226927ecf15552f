//! PCG-RXS-M-XS, as a hash: Jarzynski & Olano 2020, jcgt.org/published/0009/03/02.

/// The twin of `shaders/shared/hash.wgsl`.
pub(super) fn hash(x: u32) -> u32 {
    let state = x.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
    let word = ((state >> ((state >> 28) + 4)) ^ state).wrapping_mul(277_803_737);
    (word >> 22) ^ word
}
