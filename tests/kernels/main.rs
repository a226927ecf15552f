//! Every kernel against its reference, and every reference against golden values.

#[path = "../common/mod.rs"]
mod common;

mod rms_norm;
mod scale_channels;
