//! Quantize and run hybrid Mamba-2 language models on any GPU, through WebGPU compute shaders.

pub mod checkpoint;
pub mod error;
pub mod gpu;
pub mod hadamard;
pub mod kernels;
pub mod model;
pub mod pack;
pub mod reference;
pub mod shaders;
pub mod tensor;

pub use error::{Error, Result};
