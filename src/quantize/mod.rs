//! Weights to codes and scales.

mod format;
mod gptq;
mod linalg;
mod refine;
mod rtn;
mod scheme;

pub use format::{Format, ScaleFormat};
pub use gptq::{GptqOptions, Prepared, gptq, output_error};
pub use rtn::{QUANTIZER, quantize_linear};
pub use scheme::{Bits, Scheme, quantize_embedding, quantize_head, quantize_layer};
