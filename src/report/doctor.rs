//! What `wgquant doctor` found.

use serde::Serialize;

use super::DeviceInfo;
use crate::gpu::{AdapterReport, Caps};
use crate::kernels::check::Outcome;

/// A device and how it did on the kernels' cases.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// Where the cases ran.
    #[serde(flatten)]
    pub device: DeviceInfo,
    /// Why this device was taken.
    pub reason: String,
    /// Everything the adapter says of itself; `None` for the CPU reference.
    pub details: Option<AdapterReport>,
    /// Capabilities after masking: they choose the shader variants.
    pub caps: Caps,
    /// Version of this program.
    pub version: &'static str,
    /// Cases that agreed with the reference.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// Cases that this device lacks something for.
    pub skipped: usize,
    /// Seconds the cases took, shader compilation included.
    pub seconds: f64,
    /// Every case.
    pub cases: Vec<Outcome>,
}

impl DoctorReport {
    /// Do all kernels work here?
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.failed == 0
    }

    /// Kernels in the order they were checked, with their cases.
    #[must_use]
    pub fn by_kernel(&self) -> Vec<(&'static str, Vec<&Outcome>)> {
        let mut kernels: Vec<(&'static str, Vec<&Outcome>)> = Vec::new();
        for case in &self.cases {
            match kernels.iter_mut().find(|(name, _)| *name == case.kernel) {
                Some((_, cases)) => cases.push(case),
                None => kernels.push((case.kernel, vec![case])),
            }
        }
        kernels
    }
}
