//! The definition of every kernel: plain Rust over slices, the shader's own `Params`, sums in f64.

#![allow(clippy::cast_possible_truncation, reason = "results are rounded to f32 on purpose")]

/// `a·b` in f64. Eight sums side by side, so that the compiler vectorises it.
fn dot<T: Copy + Into<f64>>(a: &[T], b: &[T]) -> f64 {
    let product = |(a, b): (&T, &T)| (*a).into() * (*b).into();
    let mut sums = [0.0f64; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a8.remainder().iter().zip(b8.remainder()).map(product).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += product((&a[i], &b[i]));
        }
    }
    sums.iter().sum::<f64>() + rest
}

pub mod absmax;
pub mod argmax;
pub mod argmax_merge;
pub mod attention;
pub mod attention_merge;
pub mod attention_merge_codes;
pub mod attention_split;
pub mod causal_conv1d;
pub mod causal_conv1d_state;
pub mod causal_conv1d_update;
pub mod channel_stats;
pub mod chunk_cumsum;
pub mod chunk_entering;
pub mod chunk_products;
pub mod chunk_scan;
pub mod chunk_state;
pub mod copy_peak;
pub mod dequantize;
pub mod dot_peak;
pub mod embed;
pub mod embed_codes;
pub mod fma_peak;
pub mod gather_moments;
pub mod gptq_block;
pub mod gptq_refine;
pub mod gram;
mod grouped_rows;
pub mod hadamard;
pub mod hadamard_groups;
pub mod hadamard_mix;
pub mod hadamard_mix_quantize;
pub mod hadamard_quantize;
pub mod hadamard_runs;
pub mod hadamard_whole;
mod hash;
pub mod kl_divergence;
pub mod kv;
pub mod kv_append;
mod lines;
pub mod log_probs;
mod made_token;
pub mod mamba2_tokens;
pub mod mamba2_tokens_gated;
pub mod mamba2_update;
pub mod mamba2_update_gated;
pub mod mamba2_update_int8;
mod matmul;
pub mod matmul_f32;
pub mod matmul_halves;
pub mod matmul_w4a16;
pub mod matmul_w4a8;
pub mod matmul_w8a8;
pub mod matvec_f32;
pub mod matvec_grouped;
pub mod matvec_grouped_add;
pub mod matvec_grouped_relu2;
pub mod matvec_w4a16;
pub mod matvec_w4a8;
pub mod matvec_w8a8;
pub mod probe_barrier;
pub mod probe_float;
pub mod probe_subgroup;
pub mod quantize_maxima;
pub mod quantize_static;
pub mod quantize_tokens;
pub mod quantize_weight;
pub mod rank_update;
pub mod relu_squared;
pub mod rms_norm;
pub mod rms_norm_gated;
pub mod rms_norm_gated_matvec;
pub mod rms_norm_gated_quantize;
pub mod rms_norm_matvec;
pub mod rms_norm_quantize;
pub mod s_silu;
pub mod sample;
pub mod scale_channels;
pub mod scan;
pub mod selective_state_update;
pub mod selective_state_update_int8;
pub mod split_columns;
pub mod split_k_reduce;
pub mod split_rows;
mod splits;
pub mod ssm_load;
pub mod ssm_round;
pub mod ssm_store;
pub mod state_passing;
pub mod subtract;
