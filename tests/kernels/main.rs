//! Every kernel against its reference, and every reference against golden values.

#[path = "../common/mod.rs"]
mod common;

mod absmax;
mod argmax;
mod attention;
mod capabilities;
mod causal_conv1d;
mod causal_conv1d_state;
mod causal_conv1d_update;
mod chunk_cumsum;
mod chunk_scan;
mod chunk_state;
mod dequantize;
mod embed;
mod embed_w8;
mod faults;
mod fma_peak;
mod gptq_block;
mod gptq_refine;
mod gram;
mod hadamard;
mod hadamard_mix;
mod kv_append;
mod matmul_f32;
mod matmul_w4a16;
mod matmul_w4a8;
mod matmul_w8a8;
mod matvec_f32;
mod matvec_w4a16;
mod matvec_w4a8;
mod matvec_w8a8;
mod probe_barrier;
mod probe_float;
mod quantize_tokens;
mod quantize_weight;
mod rank_update;
mod relu_squared;
mod rms_norm;
mod rms_norm_gated;
mod sample;
mod scale_channels;
mod selective_state_update;
mod ssd;
mod state_passing;
