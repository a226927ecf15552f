//! Where kernels run: a GPU through wgpu, or the CPU reference behind the same interface.
//!
//! A [`Device`] holds [`DeviceTensor`]s; a [`Plan`] collects kernel launches; [`Plan::record`] makes a
//! [`Recording`] (pipelines, bind groups and parameters, made once) that runs any number of times.

mod adapter;
mod buffer;
mod caps;
mod device;
mod errors;
mod grid;
mod memory;
#[cfg(not(target_arch = "wasm32"))]
mod pace;
mod pipeline;
mod plan;
mod read;
mod receipts;
mod specialise;
mod submission;
mod take_back;
mod timing;
mod trust;
mod tune;
mod upload;

pub use adapter::{AdapterReport, DeviceChoice, adapters};
pub use buffer::DeviceTensor;
pub(crate) use buffer::{ALIGNMENT, row_words};
pub use caps::Caps;
pub use device::{Device, Gpu};
pub use grid::Grid;
pub use memory::Room;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use pipeline::shader_checks;
pub use plan::{CpuBinding, CpuCall, Launch, Need, Plan, Recording};
pub use read::Reading;
pub use specialise::Specialise;
pub use submission::Submission;
pub use timing::Launched;
pub use trust::Guard;
pub use tune::{Contest, Place, SizeClass};
