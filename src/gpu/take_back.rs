//! Launches that another does the work of along.

use super::buffer::DeviceTensor;
use super::plan::{Plan, Step};

impl Plan {
    /// Takes back the last step, if it is a launch of `kernel` and `of` says so of its parameters and bindings, which are given back: for a launch that does its work
    /// along.
    pub(crate) fn take_back(
        &mut self,
        kernel: &str,
        of: impl FnOnce(&[u8], &[DeviceTensor]) -> bool,
    ) -> Option<Vec<DeviceTensor>> {
        let it_is = |step: &mut Step| match step {
            Step::Dispatch(launch) => launch.kernel.name == kernel && of(&launch.params, &launch.bindings),
            Step::Copy { .. } => false,
        };
        match self.steps.pop_if(it_is)? {
            Step::Dispatch(launch) => Some(launch.bindings),
            Step::Copy { .. } => None,
        }
    }
}
