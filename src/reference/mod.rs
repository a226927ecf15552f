//! The definition of every kernel: plain Rust over slices, the shader's own `Params`, sums in f64.

#![allow(clippy::cast_possible_truncation, reason = "results are rounded to f32 on purpose")]

pub mod argmax;
pub mod embed;
pub mod embed_w8;
pub mod hadamard;
pub mod hadamard_mix;
pub mod relu_squared;
pub mod rms_norm;
pub mod rms_norm_gated;
pub mod sample;
pub mod scale_channels;
