//! Weights to codes and scales.

mod format;
mod gptq;
mod linalg;
mod refine;
mod rtn;

pub use format::{Format, ROW_SCALE, ScaleFormat};
pub use gptq::{GptqOptions, Prepared, gptq, output_error};
pub use rtn::{QUANTIZER, nearest, searched};
