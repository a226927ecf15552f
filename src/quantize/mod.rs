//! Weights to codes and scales.

mod rtn;
mod scheme;

pub use rtn::{QUANTIZER, quantize_linear};
pub use scheme::{Bits, Scheme, quantize_embedding, quantize_head, quantize_layer};
