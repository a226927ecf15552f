//! Whole models: against transformers, against themselves cut otherwise, under exact rewrites, quantized.

#[path = "../common/mod.rs"]
mod common;

mod activation_groups;
mod awq;
mod diff;
mod exact;
mod golden;
mod int8_state;
mod kv_cache;
mod loading;
mod long;
mod pace;
mod parts;
mod perplexity;
mod prefixes;
mod prompts;
mod quantize;
mod questions;
mod runtime;
mod scan_format;
mod scores;
mod search;
mod sequences;
mod serve;
mod static_scales;
mod stats;
mod transform;
mod trust;
mod unfinished;
