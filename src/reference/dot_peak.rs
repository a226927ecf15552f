//! `acc = acc + dot(acc, x)` of packed int8 codes, four times a round, in sixteen chains that start at `x + j`; their
//! sum. All sums wrap.

use crate::shaders::dot_peak::Params;

/// Steps a round.
pub const STEPS: u32 = 4;
/// Chains an element.
pub const CHAINS: u32 = 16;

/// `x`, `out`: `[count]`.
pub fn dot_peak(p: &Params, x: &[u32], out: &mut [u32]) {
    for (x, out) in x.iter().zip(out) {
        let chain = |j: u32| {
            (0..p.rounds * STEPS).fold(x.wrapping_add(j), |acc, _| {
                let products = acc.to_le_bytes().into_iter().zip(x.to_le_bytes());
                let dot: i32 = products.map(|(a, b)| i32::from(a.cast_signed()) * i32::from(b.cast_signed())).sum();
                acc.wrapping_add(dot.cast_unsigned())
            })
        };
        *out = (0..CHAINS).map(chain).fold(0, u32::wrapping_add);
    }
}
