//! `rounds` times: `all` = sum of the first `size` elements; element `i` becomes `3 · element[(i + 1 + all) % size] +
//! all`, modulo 2³². A definition of this crate: any dropped barrier changes the result.

use crate::shaders::probe_barrier::{Format, Params};

/// `x`: `[1024]`; `out`: `[count, 1024]`, row `w` for size `first + w`, zero beyond it. The format, a number of threads,
/// changes nothing.
pub fn probe_barrier(p: &Params, _: Format, x: &[u32], out: &mut [u32]) {
    for (size, out) in (p.first as usize..).zip(out.chunks_exact_mut(1024)) {
        let size = size.min(1024);
        let mut elements = x[..size].to_vec();
        for _ in 0..p.rounds {
            let all = elements.iter().fold(0u32, |sum, v| sum.wrapping_add(*v));
            let from = |i: usize| elements[(i + 1 + all as usize % size) % size];
            elements = (0..size).map(|i| from(i).wrapping_mul(3).wrapping_add(all)).collect();
        }
        out.fill(0);
        out[..size].copy_from_slice(&elements);
    }
}
