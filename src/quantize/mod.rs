//! Weights to codes and scales.

#[cfg(not(target_arch = "wasm32"))]
mod blocks;
mod format;
#[cfg(not(target_arch = "wasm32"))]
mod gptq;
#[cfg(not(target_arch = "wasm32"))]
mod linalg;
mod options;
#[cfg(not(target_arch = "wasm32"))]
mod prepared;
#[cfg(not(target_arch = "wasm32"))]
mod refine;
mod rtn;

pub use format::{Format, ROW_SCALE, ScaleFormat};
#[cfg(not(target_arch = "wasm32"))]
pub use gptq::gptq;
pub use options::GptqOptions;
#[cfg(not(target_arch = "wasm32"))]
pub use prepared::{Losses, Prepared};
pub use rtn::{QUANTIZER, nearest, searched};
