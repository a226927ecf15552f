//! Quantize and run hybrid Mamba-2 language models on any GPU, through WebGPU compute shaders.

// Not in Cargo.toml: tests may unwrap, the program may print.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::print_stdout))]

pub mod analyze;
#[cfg(not(target_arch = "wasm32"))]
pub mod bench;
pub mod calibrate;
pub mod checkpoint;
pub mod error;
pub mod eval;
#[cfg(not(target_arch = "wasm32"))]
pub mod files;
pub mod gpu;
pub mod hadamard;
pub mod kernels;
pub mod model;
pub mod pack;
pub mod quantize;
pub mod recipe;
pub mod reference;
pub mod report;
pub mod runtime;
#[cfg(not(target_arch = "wasm32"))]
pub mod search;
pub mod shaders;
#[cfg(not(target_arch = "wasm32"))]
pub mod synth;
pub mod tensor;
pub mod transform;

pub use error::{Error, Result};
