//! `out = relu(x)²`. So et al. 2021 (Primer), arXiv:2109.08668.

use crate::shaders::relu_squared::Params;

/// `x`, `out`: any shape of `count` elements.
pub fn relu_squared(p: &Params, x: &[f32], out: &mut [f32]) {
    for (out, x) in out[..p.count as usize].iter_mut().zip(x) {
        *out = super::matmul::relu_squared(f64::from(*x)) as f32;
    }
}
