//! Every kernel against its reference, and every reference against golden values.

#[path = "../common/mod.rs"]
mod common;

mod argmax;
mod embed;
mod embed_w8;
mod hadamard;
mod hadamard_mix;
mod relu_squared;
mod absmax;
mod dequantize;
mod matmul_f32;
mod matmul_w4a16;
mod matmul_w4a8;
mod matmul_w8a8;
mod matvec_f32;
mod matvec_w4a16;
mod matvec_w4a8;
mod matvec_w8a8;
mod quantize_tokens;
mod quantize_weight;
mod rms_norm;
mod rms_norm_gated;
mod sample;
mod scale_channels;
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
