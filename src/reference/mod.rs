//! The definition of every kernel: plain Rust over slices, the shader's own `Params`, sums in f64.

#![allow(clippy::cast_possible_truncation, reason = "results are rounded to f32 on purpose")]

pub mod argmax;
pub mod embed;
pub mod embed_w8;
pub mod hadamard;
pub mod hadamard_mix;
pub mod relu_squared;
pub mod absmax;
pub mod dequantize;
mod matmul;
pub mod matmul_f32;
pub mod matmul_w4a16;
pub mod matmul_w4a8;
pub mod matmul_w8a8;
pub mod matvec_f32;
pub mod matvec_w4a16;
pub mod matvec_w4a8;
pub mod matvec_w8a8;
pub mod quantize_tokens;
pub mod quantize_weight;
pub mod rms_norm;
pub mod rms_norm_gated;
pub mod sample;
pub mod scale_channels;
