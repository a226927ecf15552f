//! Calibration: what a model's activations are like on real text, block by block, with everything upstream already
//! quantized.
//!
//! ```text
//! text → sequences → streams ┬→ block i: norm → moments → GPTQ in_proj / q, k, v / up
//!          (in a file)       ├→ block i: run  → moments → GPTQ out_proj / o / down
//!                            └→ block i: run  → streams of block i + 1
//! ```
//!
//! Streams live in a temporary file and pass through the device one sequence at a time, so memory does not grow with
//! the number of sequences.

mod dataset;
#[cfg(not(target_arch = "wasm32"))]
mod moments;
#[cfg(not(target_arch = "wasm32"))]
mod spool;
#[cfg(not(target_arch = "wasm32"))]
mod walk;

pub use dataset::{Calibration, Windows, sample};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use moments::Means;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use walk::{Walk, parts};
