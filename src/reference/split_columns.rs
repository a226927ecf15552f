//! f32 numbers as two f16 each, or one, columns scaled by powers of two: what products on matrix units are made from.

use half::f16;

use crate::shaders::split_columns::Params;

/// `x`: `[tokens, n]`; `halves`: `[parts, tokens, n]` f16, first bits and then the rest; `scales`: `[n]`.
pub fn split_columns(p: &Params, x: &[f32], halves: &mut [u32], scales: &mut [f32]) {
    let n = p.n as usize;
    let mut up = vec![0.0; n];
    for (c, (up, scale)) in up.iter_mut().zip(scales.iter_mut()).enumerate() {
        let most = x.iter().skip(c).step_by(n).fold(0.0f32, |m, v| m.max(v.abs()));
        (*up, *scale) = scale_of(most);
    }
    let number = |e: usize| x[e] * up[e % n];
    if p.parts == 1 {
        (0..).zip(halves).for_each(|(i, word)| *word = packed(nearest(number(2 * i)), nearest(number(2 * i + 1))));
        return;
    }
    let (first, rest) = halves.split_at_mut(x.len() / 2);
    for (i, (first, rest)) in first.iter_mut().zip(rest).enumerate() {
        let [a, b] = [number(2 * i), number(2 * i + 1)];
        *first = packed(cut(a), cut(b));
        *rest = packed(cut(a - cut(a)), cut(b - cut(b)));
    }
}

/// The power of two that brings `most` to 2^14 .. 2^15, and its reciprocal.
pub(super) fn scale_of(most: f32) -> (f32, f32) {
    let exponent = (most.to_bits() >> 23).clamp(15, 254);
    (f32::from_bits((268 - exponent) << 23), f32::from_bits((exponent - 14) << 23))
}

/// As many bits as f16 has, above 2^-24.
pub(super) fn cut(x: f32) -> f32 {
    const BITS: f32 = 16_777_216.0;
    (f32::from_bits(x.to_bits() & 0xffff_e000) * BITS).trunc() / BITS
}

/// To the nearest f16, halves away from 0.
fn nearest(x: f32) -> f32 {
    cut(f32::from_bits(x.to_bits() + 0x1000))
}

fn packed(a: f32, b: f32) -> u32 {
    u32::from(f16::from_f32(a).to_bits()) | u32::from(f16::from_f32(b).to_bits()) << 16
}
