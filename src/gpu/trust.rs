//! Which variants were found right on an adapter, and who finds out about the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::{Device, Gpu};
use super::plan::Need;
use crate::error::Result;
use crate::shaders::{Kernel, Variant};

/// Settles whether a kernel in a format is computed rightly on a device ([`Gpu::set_trust`]), or refuses it.
pub type Guard = dyn Fn(&Device, Need) -> Result<()> + Send + Sync;

/// Verdicts so far.
#[derive(Default)]
pub(super) struct Trust {
    /// By kernel and name of the variant: true for those to be trusted.
    checked: Mutex<HashMap<(&'static str, &'static str), bool>>,
    guard: Mutex<Option<Arc<Guard>>>,
}

impl Gpu {
    /// Was this variant found right (true) or wrong here? `None` before it was checked.
    #[must_use]
    pub fn trusts(&self, kernel: &'static str, variant: &'static str) -> Option<bool> {
        let checked = self.trust.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.get(&(kernel, variant)).copied()
    }

    /// Notes that a variant was found right or wrong here. Plans made later avoid those found wrong.
    pub fn set_trust(&self, kernel: &'static str, variant: &'static str, right: bool) {
        let mut checked = self.trust.checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.insert((kernel, variant), right);
    }

    /// From now on, plans ask `guard` about every kernel and format that they come to for the first time, and so
    /// dispatch nothing unchecked. Plans with a forced variant, as the guard's own, do not ask.
    pub fn set_guard(&self, guard: Arc<Guard>) {
        *self.trust.guard.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    }

    /// The guard, if there is one and it has not let this variant pass.
    pub(super) fn unsettled(&self, kernel: &'static Kernel, variant: &'static Variant) -> Option<Arc<Guard>> {
        let guard = self.trust.guard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        guard.filter(|_| self.trusts(kernel.name, variant.name) != Some(true))
    }
}
