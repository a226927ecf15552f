//! Quantize and run hybrid Mamba-2 language models on any GPU, through WebGPU compute shaders.
//!
//! A [`model::ModelSource`] hands out a model's layers one at a time; [`model::ModelFile`] reads them from a directory in
//! Hugging Face layout, [`transform::Transformed`] rewrites and [`recipe::Quantized`] quantizes those of another. A
//! [`runtime::Engine`] runs one on a [`gpu::Device`], which may be the CPU reference; [`eval`] measures it.
//! [`recipe::quantize`] writes a directory that other tools load.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use std::path::Path;
//!
//! use pollster::block_on;
//! use wgquant::gpu::{Device, DeviceChoice};
//! use wgquant::model::ModelFile;
//! use wgquant::runtime::{Engine, EngineOptions, Next};
//!
//! # fn main() -> wgquant::Result<()> {
//! let device = block_on(Device::open(&DeviceChoice::Best, None))?;
//! let model = ModelFile::open(Path::new("assets/nano"))?;
//! let mut engine = Engine::new(&device, &model, EngineOptions { context: 256, ..Default::default() })?;
//! // Ids in and ids out: a tokenizer is the caller's, such as that of the crate `tokenizers`.
//! let ids = block_on(engine.generate(&[1, 270, 1002], 32, Next::Greedy, |_id| ControlFlow::Continue(())))?;
//! println!("{ids:?}");
//! # Ok(())
//! # }
//! ```
//!
//! Only what waits for a device is `async`; any executor will do. A [`gpu::Device`] may be cloned and shared between
//! threads, an [`runtime::Engine`] moved to one. Errors are one type, [`Error`]; nothing panics on what a file
//! holds, nor on what a caller gives, but where a function says so. Two things are for callers to see to: functions of
//! [`reference`](mod@reference) take what [`kernels`] has checked, and methods of a [`model::ModelConfig`] made by hand
//! multiply its sizes, which may be beyond any number; engines, transforms and recipes ask before.

// Not in Cargo.toml: tests may unwrap, the program may print.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout))]

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
pub mod serve;
pub mod shaders;
#[cfg(not(target_arch = "wasm32"))]
pub mod synth;
pub mod tensor;
pub mod transform;

pub use error::{Error, Result};
