//! Calibration: what a model's activations are like on real text, block by block, with everything upstream already
//! quantized.
//!
//! ```text
//! text → sequences → streams ┬→ block i: norm → moments → GPTQ in_proj / q, k, v / up
//!       (device or file)     ├→ block i: run  → moments → GPTQ out_proj / o / down
//!                            └→ block i: run  → streams of block i + 1
//! ```
//!
//! Streams live on the device where they take a small part of its memory, else in a temporary file (`spool.rs`), and pass through
//! one sequence at a time, so memory does not grow with the number of sequences.
//!
//! A whole model as it is, quantized or not, is looked at by [`Calibrator`], which gathers [`Stats`] to be kept, merged
//! and gone on with.

mod bounds;
#[cfg(not(target_arch = "wasm32"))]
mod calibrator;
mod chat;
mod dataset;
mod documents;
mod dumps;
#[cfg(not(target_arch = "wasm32"))]
mod extents;
#[cfg(not(target_arch = "wasm32"))]
mod input_stats;
#[cfg(not(target_arch = "wasm32"))]
mod moments;
#[cfg(not(target_arch = "wasm32"))]
mod sequences;
#[cfg(not(target_arch = "wasm32"))]
mod sites;
#[cfg(not(target_arch = "wasm32"))]
mod spool;
mod stats;
#[cfg(not(target_arch = "wasm32"))]
mod stats_file;
#[cfg(not(target_arch = "wasm32"))]
mod walk;

#[cfg(not(target_arch = "wasm32"))]
pub use calibrator::Calibrator;
pub use chat::ChatTemplate;
pub use dataset::{Calibration, TextEncoder, Windows, missing_bos};
pub use documents::BOM;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use documents::json_lines;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use extents::Rounding;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use input_stats::{Besides, InputStats};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use moments::{Means, Shift};
#[cfg(not(target_arch = "wasm32"))]
pub use sequences::{Sequences, chain, sample, warn_of_fewer};
pub use stats::{SiteStats, Stats, StatsMeta, StatsPart, kurtosis, max_over_median};
#[cfg(not(target_arch = "wasm32"))]
pub(crate) use walk::{Walk, parts};
