//! Model directories: what is read, what is refused and with which words, and that writing loses nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_config;
mod bad_files;
mod common;
mod in_memory;
mod mixed_bits;
mod published;
mod quantized;
mod real_models;
mod round_trip;
#[path = "../common/shared.rs"]
mod shared;
mod static_scales;
mod writing;
