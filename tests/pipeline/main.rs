//! Whole models: against transformers, against themselves cut otherwise, under exact rewrites, quantized.

#[path = "../common/mod.rs"]
mod common;

mod diff;
mod golden;
mod long;
mod perplexity;
mod quantize;
mod runtime;
mod stats;
mod transform;
mod trust;
