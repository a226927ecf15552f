//! What a driver without faults gives: nothing contradicts, and sums by way of subgroups are the sums.

use crate::shaders::probe_subgroup::{Format, Params};

/// `x`, `wrong`, `sizes`: `[workgroups, threads]`; `totals`: `[workgroups]`. The reference is one thread: a subgroup of 1.
/// The format, a number of threads, shows in the lengths.
pub fn probe_subgroup(p: &Params, _: Format, x: &[u32], wrong: &mut [u32], totals: &mut [u32], sizes: &mut [u32]) {
    wrong.fill(0);
    sizes.fill(1);
    let threads = x.len() / p.workgroups as usize;
    for (total, row) in totals.iter_mut().zip(x.chunks_exact(threads)) {
        *total = row.iter().fold(0, |sum: u32, v| sum.wrapping_add(*v));
    }
}
