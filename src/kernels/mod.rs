//! Kernels: argument checks, launch and named cases of every shader. One file a kernel.

pub(crate) mod bindings;
pub mod check;
#[cfg(not(target_arch = "wasm32"))]
pub mod trust;
#[cfg(not(target_arch = "wasm32"))]
pub mod tuned;

mod absmax;
mod argmax;
mod argmax_merge;
mod attention;
mod attention_merge;
mod attention_merge_codes;
mod attention_split;
mod causal_conv1d;
mod causal_conv1d_state;
mod causal_conv1d_update;
mod channel_stats;
mod chunk_cumsum;
mod chunk_entering;
mod chunk_products;
mod chunk_scan;
mod chunk_state;
mod columns;
mod copy_peak;
mod dequantize;
mod dot_peak;
mod embed;
mod embed_codes;
mod fma_peak;
mod gather_moments;
mod gptq_block;
mod gptq_refine;
mod gram;
mod grouped_rows;
mod hadamard;
mod hadamard_groups;
mod hadamard_mix;
mod hadamard_mix_quantize;
mod hadamard_quantize;
mod hadamard_runs;
mod hadamard_whole;
mod kl_divergence;
mod kv_append;
mod kv_cache;
mod large;
mod log_probs;
mod made_token;
mod mamba2_tokens;
mod mamba2_tokens_gated;
mod mamba2_update;
mod mamba2_update_gated;
mod mamba2_update_int8;
mod matmul;
mod matmul_f32;
mod matmul_halves;
mod matmul_w4a16;
mod matmul_w4a8;
mod matmul_w8a8;
mod matvec_f32;
mod matvec_grouped;
mod matvec_grouped_add;
mod matvec_grouped_relu2;
mod matvec_w4a16;
mod matvec_w4a8;
mod matvec_w8a8;
mod probe_barrier;
mod probe_float;
mod probe_subgroup;
mod quantize_maxima;
mod quantize_static;
mod quantize_tokens;
mod quantize_weight;
mod rank_update;
mod relu_squared;
mod rms_norm;
mod rms_norm_gated;
mod rms_norm_gated_matvec;
mod rms_norm_gated_quantize;
mod rms_norm_matvec;
mod rms_norm_quantize;
mod s_silu;
mod sample;
mod scale_channels;
mod scaled;
mod selective_state_update;
mod selective_state_update_int8;
mod split_columns;
mod split_k_reduce;
mod split_rows;
mod ssd;
mod ssm_load;
mod ssm_round;
mod ssm_store;
mod state_passing;
mod subtract;
mod tiling;
mod weight_scales;

pub use absmax::absmax;
pub use argmax::argmax;
pub use argmax_merge::argmax_merge;
pub use attention::{AttentionDims, attention};
pub use attention_merge::attention_merge;
pub use attention_merge_codes::attention_merge_codes;
pub use attention_split::{AttentionParts, attention_in_parts, attention_split, takes_parts};
pub use causal_conv1d::causal_conv1d;
pub use causal_conv1d_state::causal_conv1d_state;
pub use causal_conv1d_update::causal_conv1d_update;
pub use channel_stats::{ChannelSums, MAGNITUDE_BINS, Samples, channel_stats};
pub use chunk_cumsum::chunk_cumsum;
pub use chunk_entering::chunk_entering;
pub use chunk_products::chunk_products;
pub use chunk_scan::chunk_scan;
pub use chunk_state::chunk_state;
pub use columns::Columns;
pub use copy_peak::copy_peak;
pub use dequantize::dequantize;
pub use dot_peak::{DOTS_PER_ROUND, dot_peak};
pub use embed::{TablePart, embed};
pub use embed_codes::embed_codes;
pub use fma_peak::{FMAS_PER_ROUND, fma_peak};
pub use gather_moments::gather_moments;
pub use gptq_block::{GPTQ_BLOCK, GptqBlock, gptq_block};
pub use gptq_refine::{GptqRefine, ScaleForm, gptq_refine};
pub use gram::{GramSums, cross_gram, gram};
pub use grouped_rows::{GROUPED_TOKENS, GroupedTokens, NormFactors, TOKEN_GROUP, grouped_pays, turns_in_groups};
pub use hadamard::{HadamardBuffers, hadamard, hadamard_codes_with, hadamard_with};
pub use hadamard_groups::{hadamard_groups, hadamard_groups_fits};
pub use hadamard_mix::{hadamard_mix, hadamard_signs};
pub use hadamard_mix_quantize::hadamard_mix_quantize;
pub use hadamard_quantize::hadamard_quantize;
pub use hadamard_runs::hadamard_runs;
pub use hadamard_whole::hadamard_whole;
pub use kl_divergence::kl_divergence;
pub use kv_append::kv_append;
pub use kv_cache::{KvCache, KvFormat};
pub use large::LARGE;
pub use log_probs::{LogProbOutputs, log_probs};
pub use made_token::Groups;
pub use mamba2_tokens::{fuses_tokens, mamba2_tokens};
pub use mamba2_tokens_gated::{gates_tokens, mamba2_tokens_gated};
pub use mamba2_update::{MambaVectors, Mixer, fuses, mamba2_update};
pub use mamba2_update_gated::{GatedMixer, gated_vectors, gates, mamba2_update_gated};
pub use mamba2_update_int8::{fuses_stored, mamba2_update_int8, stored_vectors};
pub use matmul::Epilogue;
pub use matmul_f32::matmul_f32;
pub use matmul_halves::{gram_halves, matmul_halves};
pub use matmul_w4a8::matmul_w4a8;
pub use matmul_w4a16::matmul_w4a16;
pub use matmul_w8a8::matmul_w8a8;
pub use matvec_f32::matvec_f32;
pub use matvec_grouped::matvec_grouped;
pub use matvec_grouped_add::matvec_grouped_add;
pub use matvec_grouped_relu2::matvec_grouped_relu2;
pub use matvec_w4a8::matvec_w4a8;
pub use matvec_w4a16::matvec_w4a16;
pub use matvec_w8a8::matvec_w8a8;
pub use probe_barrier::probe_barrier;
pub use probe_float::{FloatOp, probe_float};
pub use probe_subgroup::probe_subgroup;
pub use quantize_maxima::quantize_maxima;
pub use quantize_static::quantize_static;
pub use quantize_tokens::quantize_tokens;
pub use quantize_weight::quantize_weight;
pub use rank_update::{Part, Update, rank_update};
pub use relu_squared::relu_squared;
pub use rms_norm::rms_norm;
pub use rms_norm_gated::rms_norm_gated;
pub use rms_norm_gated_matvec::{rms_norm_gated_matvec, rms_norm_gated_matvec_pays};
pub use rms_norm_gated_quantize::{GatedNorm, rms_norm_gated_quantize};
pub use rms_norm_matvec::{rms_norm_matvec, rms_norm_matvec_pays};
pub use rms_norm_quantize::{rms_norm_quantize, rms_norm_quantize_fits};
pub use s_silu::s_silu;
pub use sample::{Sampling, sample};
pub use scale_channels::scale_channels;
pub use scaled::{ScaleBits, Scaled};
pub use selective_state_update::selective_state_update;
pub use selective_state_update_int8::selective_state_update_int8;
pub use split_columns::{Halves, split_columns};
pub use split_k_reduce::{SplitK, split_k_reduce};
pub use split_rows::split_rows;
pub use ssd::SsdDims;
pub use ssm_load::{StoredState, ssm_load};
pub use ssm_round::ssm_round;
pub use ssm_store::{StateRounding, ssm_store};
pub use state_passing::state_passing;
pub use subtract::subtract;
pub use weight_scales::{ScaledWeight, upload_scales};
pub(crate) use weight_scales::{placed, scales_of};

use crate::error::{Error, Result};
use crate::gpu::DeviceTensor;
use crate::tensor::{DType, Shape};

/// Every kernel with its cases, by name.
pub const ENTRIES: &[check::Entry] = &[
    absmax::ENTRY,
    argmax::ENTRY,
    argmax_merge::ENTRY,
    attention::ENTRY,
    attention_merge::ENTRY,
    attention_merge_codes::ENTRY,
    attention_split::ENTRY,
    causal_conv1d::ENTRY,
    causal_conv1d_state::ENTRY,
    causal_conv1d_update::ENTRY,
    channel_stats::ENTRY,
    chunk_cumsum::ENTRY,
    chunk_entering::ENTRY,
    chunk_products::ENTRY,
    chunk_scan::ENTRY,
    chunk_state::ENTRY,
    copy_peak::ENTRY,
    dequantize::ENTRY,
    dot_peak::ENTRY,
    embed::ENTRY,
    embed_codes::ENTRY,
    fma_peak::ENTRY,
    gather_moments::ENTRY,
    gptq_block::ENTRY,
    gptq_refine::ENTRY,
    gram::ENTRY,
    hadamard::ENTRY,
    hadamard_groups::ENTRY,
    hadamard_mix::ENTRY,
    hadamard_mix_quantize::ENTRY,
    hadamard_quantize::ENTRY,
    hadamard_runs::ENTRY,
    hadamard_whole::ENTRY,
    kl_divergence::ENTRY,
    kv_append::ENTRY,
    log_probs::ENTRY,
    mamba2_tokens::ENTRY,
    mamba2_tokens_gated::ENTRY,
    mamba2_update::ENTRY,
    mamba2_update_gated::ENTRY,
    mamba2_update_int8::ENTRY,
    matmul_f32::ENTRY,
    matmul_halves::ENTRY,
    matmul_w4a16::ENTRY,
    matmul_w4a8::ENTRY,
    matmul_w8a8::ENTRY,
    matvec_f32::ENTRY,
    matvec_grouped::ENTRY,
    matvec_grouped_add::ENTRY,
    matvec_grouped_relu2::ENTRY,
    matvec_w4a16::ENTRY,
    matvec_w4a8::ENTRY,
    matvec_w8a8::ENTRY,
    probe_barrier::ENTRY,
    probe_float::ENTRY,
    probe_subgroup::ENTRY,
    quantize_maxima::ENTRY,
    quantize_static::ENTRY,
    quantize_tokens::ENTRY,
    quantize_weight::ENTRY,
    rank_update::ENTRY,
    relu_squared::ENTRY,
    rms_norm::ENTRY,
    rms_norm_gated::ENTRY,
    rms_norm_gated_quantize::ENTRY,
    rms_norm_gated_matvec::ENTRY,
    rms_norm_matvec::ENTRY,
    rms_norm_quantize::ENTRY,
    s_silu::ENTRY,
    sample::ENTRY,
    scale_channels::ENTRY,
    selective_state_update::ENTRY,
    selective_state_update_int8::ENTRY,
    split_columns::ENTRY,
    split_k_reduce::ENTRY,
    split_rows::ENTRY,
    ssm_load::ENTRY,
    ssm_round::ENTRY,
    ssm_store::ENTRY,
    state_passing::ENTRY,
    subtract::ENTRY,
];

/// Refuses a tensor that is not of `shape` (rank matters only through rows and columns).
pub(crate) fn expect(
    kernel: &'static str,
    arg: &'static str,
    tensor: &DeviceTensor,
    shape: impl Into<Shape>,
) -> Result<()> {
    let expected = shape.into();
    if (tensor.shape.rows(), tensor.shape.cols()) != (expected.rows(), expected.cols()) {
        return Err(Error::Shape { kernel, arg, expected, got: tensor.shape });
    }
    Ok(())
}

/// Refuses a tensor that is not of `dtype`; `expected` is its name in the message.
pub(crate) fn expect_dtype(
    kernel: &'static str,
    arg: &'static str,
    tensor: &DeviceTensor,
    dtype: DType,
    expected: &'static str,
) -> Result<()> {
    if tensor.dtype != dtype {
        return Err(Error::DType { kernel, arg, expected, got: tensor.dtype });
    }
    Ok(())
}

/// Refuses a tensor that is not f32.
pub(crate) fn f32_tensor(kernel: &'static str, arg: &'static str, tensor: &DeviceTensor) -> Result<()> {
    expect_dtype(kernel, arg, tensor, DType::F32, "f32")
}

/// `group`, at most `cols`; refuses 0.
pub(crate) fn group_within(kernel: &'static str, cols: usize, group: usize) -> Result<usize> {
    match group.min(cols) {
        0 => Err(Error::argument(format!("{kernel}: group"), format!("{group} for {cols} columns"))),
        group => Ok(group),
    }
}
