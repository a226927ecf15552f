//! Results as people and programs see them: plain data that serializes to JSON, and pure functions that turn it
//! into terminal tables ([`terminal`]) or one HTML page ([`html`]).

mod analysis;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
mod calibrated;
mod chart;
#[cfg(not(target_arch = "wasm32"))]
mod columns;
mod demo;
mod diff;
mod doctor;
#[cfg(not(target_arch = "wasm32"))]
mod evaluated;
mod heat;
pub mod html;
mod perplexity;
mod quantized;
#[cfg(not(target_arch = "wasm32"))]
mod search;
#[cfg(not(target_arch = "wasm32"))]
pub mod sweep;
#[cfg(feature = "cli")]
pub mod terminal;
pub mod test_ops;
mod text;
#[cfg(not(target_arch = "wasm32"))]
pub mod tune;

use serde::Serialize;

pub use crate::analyze::ModelInfo;
use crate::gpu::Device;

pub use calibrated::{CalibrateReport, SiteRow};
pub use demo::{DemoReport, DemoRow};
pub use diff::DiffReport;
pub use doctor::DoctorReport;
#[cfg(not(target_arch = "wasm32"))]
pub use evaluated::EvalReport;
pub use perplexity::{Measured, PerplexityReport};
pub use quantized::QuantizeReport;
#[cfg(not(target_arch = "wasm32"))]
pub use search::SearchReport;
pub use text::{bytes, count, shell};

/// Where a result was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Name of the adapter, or `CPU reference`.
    pub adapter: String,
    /// vulkan, metal, dx12, gl or cpu.
    pub backend: String,
    /// DiscreteGpu, IntegratedGpu, VirtualGpu, Cpu (a software driver, or the reference) or Other.
    pub device_type: String,
    /// Driver and its version; empty for the reference.
    pub driver: String,
}

impl From<&Device> for DeviceInfo {
    fn from(device: &Device) -> Self {
        match device.gpu() {
            Some(gpu) => Self {
                adapter: gpu.adapter.name.clone(),
                backend: gpu.adapter.backend.clone(),
                device_type: gpu.adapter.device_type.clone(),
                driver: format!("{} {}", gpu.adapter.driver, gpu.adapter.driver_info).trim().to_owned(),
            },
            None => Self {
                adapter: device.name(),
                backend: "cpu".to_owned(),
                device_type: "Cpu".to_owned(),
                driver: String::new(),
            },
        }
    }
}
