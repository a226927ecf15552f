//! Weights to codes and scales.

#[cfg(not(target_arch = "wasm32"))]
mod blocks;
mod format;
#[cfg(not(target_arch = "wasm32"))]
mod given;
#[cfg(not(target_arch = "wasm32"))]
mod gptq;
#[cfg(not(target_arch = "wasm32"))]
mod linalg;
mod loss;
mod options;
#[cfg(not(target_arch = "wasm32"))]
mod prepared;
#[cfg(not(target_arch = "wasm32"))]
mod refine;
mod rtn;
#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
#[cfg(not(target_arch = "wasm32"))]
mod timed;
#[cfg(not(target_arch = "wasm32"))]
mod turn;

pub use format::{Format, ROW_SCALE, ScaleFormat};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use gptq::aimed_gptq;
#[cfg(not(target_arch = "wasm32"))]
pub use gptq::gptq;
pub use loss::{LOSSES_FILE, ModuleLoss};
pub use options::GptqOptions;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use prepared::whole_on_device;
#[cfg(not(target_arch = "wasm32"))]
pub use prepared::{Losses, Prepared};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use rtn::rounded;
pub use rtn::{QUANTIZER, nearest, searched};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use timed::timed;
