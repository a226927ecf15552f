//! `out -= x`.

use crate::shaders::subtract::Params;

/// `x`, `out`: any shape of `count` elements.
pub fn subtract(p: &Params, x: &[f32], out: &mut [f32]) {
    for (out, x) in out[..p.count as usize].iter_mut().zip(x) {
        *out -= x;
    }
}
