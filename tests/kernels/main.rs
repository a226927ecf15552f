//! Every kernel against its reference, and every reference against golden values.

#[path = "../common/mod.rs"]
mod common;

mod argmax;
mod embed;
mod embed_w8;
mod hadamard;
mod hadamard_mix;
mod relu_squared;
mod rms_norm;
mod rms_norm_gated;
mod sample;
mod scale_channels;
