//! How `splits` workgroups divide the keys of one sequence. The twin of `shaders/shared/splits.wgsl`.

use std::ops::Range;

/// Keys that are worth a workgroup.
const LEAST: usize = 16;

/// The keys of each split that has some.
pub(super) fn ranges(keys: usize, splits: usize) -> impl Iterator<Item = Range<usize>> {
    let share = keys.div_ceil(splits).max(LEAST);
    (0..keys.div_ceil(share)).map(move |s| s * share..((s + 1) * share).min(keys))
}
