//! How many workgroups a launch has.

use crate::shaders::Variant;

/// Most workgroups along an axis.
pub(super) const MAX_AXIS: usize = 65_535;

/// Number of workgroups along x, y and z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    workgroups: [usize; 3],
    on_matrices: Option<[usize; 3]>,
}

impl Grid {
    /// So many along each axis.
    #[must_use]
    pub const fn new(workgroups: [usize; 3]) -> Self {
        Self { workgroups, on_matrices: None }
    }

    /// `count` workgroups, folded into rows where one axis cannot hold them. Shaders use
    /// `linear_workgroup` of `shared/index.wgsl` and ignore indices beyond their own count.
    #[must_use]
    pub fn linear(count: usize) -> Self {
        Self::new(if count <= MAX_AXIS { [count, 1, 1] } else { [MAX_AXIS, count.div_ceil(MAX_AXIS), 1] })
    }

    /// `items` covered by workgroups of `size`.
    #[must_use]
    pub fn cover(items: usize, size: usize) -> Self {
        Self::linear(items.div_ceil(size))
    }

    /// The same, but `workgroups` of variants on matrix units (or emulating them), whose tiles are larger: a workgroup that only finds out that it is one too many takes a core's memory
    /// and registers meanwhile.
    #[must_use]
    pub const fn on_matrices(self, workgroups: [usize; 3]) -> Self {
        Self { on_matrices: Some(workgroups), ..self }
    }

    /// The number of most variants, along each axis.
    #[must_use]
    pub const fn workgroups(self) -> [usize; 3] {
        self.workgroups
    }

    /// The number of `variant`.
    #[must_use]
    pub fn of(self, variant: &Variant) -> [usize; 3] {
        self.on_matrices.filter(|_| on_matrices(variant)).unwrap_or(self.workgroups)
    }
}

/// Does a variant run on matrix units, or emulate them?
pub(super) fn on_matrices(variant: &Variant) -> bool {
    variant.emulated() || variant.needs.contains(&"coop_matrix")
}
