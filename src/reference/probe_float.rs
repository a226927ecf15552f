//! Is `f(x)` within bounds? `f` in f64, rounded once; conversions to f16 round to nearest even.

use crate::shaders::probe_float::Params;

/// Bits of `f(x)` from the bits of `x`; `op` as in the shader.
#[must_use]
pub fn evaluate(op: u32, bits: u32) -> u32 {
    let v = f64::from(f32::from_bits(bits));
    let y = match op {
        0 => v.exp(),
        1 => v.ln(),
        2 => v.tanh(),
        3 => v.max(0.0) + (-v.abs()).exp().ln_1p(),
        4 => v / (1.0 + (-v).exp()),
        5 => f64::from(half::f16::from_bits(bits as u16).to_f32()),
        _ => return u32::from(half::f16::from_f32(f32::from_bits(bits)).to_bits()),
    };
    (y as f32).to_bits()
}

/// Orders as the floats of these bits do; a NaN is beyond all of them.
#[must_use]
pub fn key(bits: u32) -> u32 {
    if bits > 0x8000_0000 { !bits } else { bits | 0x8000_0000 }
}

/// All `[count]` u32; see the shader.
pub fn probe_float(p: &Params, x: &[u32], low: &[u32], high: &[u32], wrong: &mut [u32], kind: &mut [u32]) {
    for i in 0..x.len() {
        let y = evaluate(p.op, x[i]);
        let right =
            if p.op == 6 { y == low[i] || y == high[i] } else { (key(low[i])..=key(high[i])).contains(&key(y)) };
        wrong[i] = u32::from(!right);
        kind[i] = u32::from(p.op == 6 && low[i] != high[i]);
    }
}
