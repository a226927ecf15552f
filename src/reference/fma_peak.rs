//! `acc = acc / 2 + 1/4`, eight times a round, in sixteen chains that start at `x + j`; their sum.

use crate::shaders::fma_peak::Params;

/// Steps a round.
pub const STEPS: u32 = 8;
/// Chains an element.
pub const CHAINS: u32 = 16;

/// `x`, `out`: `[count]`.
pub fn fma_peak(p: &Params, x: &[f32], out: &mut [f32]) {
    for (x, out) in x.iter().zip(out) {
        let mut sum = 0.0;
        for j in 0..CHAINS {
            let mut acc = f64::from(*x) + f64::from(j);
            for _ in 0..p.rounds * STEPS {
                acc = acc * 0.5 + 0.25;
            }
            sum += acc;
        }
        *out = sum as f32;
    }
}
