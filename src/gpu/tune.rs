//! Which variant of a kernel a GPU runs fastest, where that was measured: variants of one format take the same launch and
//! give the same results, so any may stand for another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Gpu;
use super::grid::Grid;
use super::plan::{Dispatch, Need, Plan, Step};
use crate::shaders::{Kernel, Variant};

/// How large a launch is: up to `4^class` workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SizeClass(pub u32);

impl SizeClass {
    /// The class of a grid.
    #[must_use]
    pub fn of(grid: Grid) -> Self {
        let workgroups = grid.workgroups().iter().map(|n| *n as u64).product::<u64>();
        Self(workgroups.max(1).next_power_of_two().ilog2().div_ceil(2))
    }
}

/// What a choice is for.
pub type Place = (Need, SizeClass);

/// Names of variants by what they were found fastest for.
#[derive(Default)]
pub(super) struct Choices(Mutex<Arc<HashMap<Place, &'static str>>>);

impl Choices {
    fn get(&self) -> Arc<HashMap<Place, &'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Gpu {
    /// Plans made from now on take these variants, where the adapter has what they need and they are not distrusted.
    pub fn set_choices(&self, choices: HashMap<Place, &'static str>) {
        *self.choices.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(choices);
    }

    /// The variant chosen for a launch of this size, where one was.
    pub(super) fn chosen(
        &self,
        kernel: &'static Kernel,
        format: Option<&'static str>,
        grid: Grid,
    ) -> Option<&'static Variant> {
        let place = (Need { kernel: kernel.name, format }, SizeClass::of(grid));
        let name = self.choices.get().get(&place).copied()?;
        kernel.variants.iter().find(|v| v.format == format && v.name == name && self.can_run(v))
    }

    /// Variants chosen for launches of this kernel and format, whatever their size.
    #[must_use]
    pub fn chosen_for(&self, need: Need) -> Vec<&'static str> {
        let mut names: Vec<_> = self.choices.get().iter().filter(|((n, _), _)| *n == need).map(|(_, v)| *v).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Has the adapter what this variant needs?
    #[must_use]
    pub fn can_run(&self, variant: &Variant) -> bool {
        variant.needs.iter().all(|n| self.caps.has(n))
    }
}

/// A launch of a plan that several variants could do.
pub struct Contest {
    /// Kernel and format.
    pub need: Need,
    /// How large it is.
    pub class: SizeClass,
    /// A plan of this launch alone by each variant that the adapter can run and that is not distrusted; the first is what
    /// plans take where nothing was chosen.
    pub by: Vec<(&'static Variant, Plan)>,
}

impl Plan {
    /// Its launches that could be done otherwise: of each kernel, format and size the largest.
    #[must_use]
    pub fn contests(&self) -> Vec<Contest> {
        let Some(gpu) = self.device().gpu() else { return Vec::new() };
        let mut largest: HashMap<Place, &Dispatch> = HashMap::new();
        for (i, step) in self.steps.iter().enumerate() {
            let Step::Dispatch(d) = step else { continue };
            // One that leaves a rest to the next has as many workgroups as one variant needs.
            if matches!(self.steps.get(i + 1), Some(Step::Dispatch(next)) if next.beside) {
                continue;
            }
            let held =
                largest.entry((Need { kernel: d.kernel.name, format: d.format }, SizeClass::of(d.grid))).or_insert(d);
            if d.bytes() > held.bytes() {
                *held = d;
            }
        }
        let mut all: Vec<Contest> = largest
            .into_iter()
            .map(|((need, class), d)| {
                let usable = |v: &&Variant| {
                    v.format == d.format && gpu.can_run(v) && gpu.trusts(d.kernel.name, v.name) != Some(false)
                };
                let alone = |variant| {
                    let mut plan = Plan::new(self.device());
                    plan.steps.push(Step::Dispatch(Dispatch { variant, ..d.clone() }));
                    (variant, plan)
                };
                Contest { need, class, by: d.kernel.variants.iter().rev().filter(usable).map(alone).collect() }
            })
            .filter(|c| c.by.len() > 1)
            .collect();
        all.sort_by_key(|c| (c.need, c.class));
        all
    }
}

impl Dispatch {
    fn bytes(&self) -> usize {
        self.bindings.iter().map(super::buffer::DeviceTensor::bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_powers_of_four() {
        let of = |n: usize| SizeClass::of(Grid::linear(n)).0;
        assert_eq!([1, 2, 4, 5, 16, 17, 64, 65].map(of), [0, 1, 1, 2, 2, 3, 3, 4]);
        assert_eq!(SizeClass::of(Grid::new([8, 8, 1])), SizeClass(3));
    }
}
