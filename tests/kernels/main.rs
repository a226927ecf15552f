//! Every kernel against its reference, and every reference against golden values.

#[path = "../common/mod.rs"]
mod common;

mod attention;
mod causal_conv1d;
mod causal_conv1d_state;
mod causal_conv1d_update;
mod chunk_cumsum;
mod chunk_scan;
mod chunk_state;
mod kv_append;
mod rms_norm;
mod selective_state_update;
mod ssd;
mod state_passing;
