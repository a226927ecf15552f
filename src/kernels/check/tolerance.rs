//! How far floats may be from the reference: one table, a reason a row.

/// Of outputs in f16, whatever the kernel.
pub(super) const HALVES: (f64, &str) =
    (1e-8, "f16: one step of 5e-4 relative in a few of a hundred numbers, those near a tie");

/// Largest NMSE that `kernel.variant` may show, and why.
#[must_use]
pub fn tolerance(variant: &str) -> (f64, &'static str) {
    if ["matmul_w4a8.rows_of_64x128_coop", "matmul_w8a8.rows_of_64x128_coop"].contains(&variant) {
        return (
            1e-11,
            "exact f16 products, of which matrix units add 16 to an f32 sum of the whole row, cutting off what it does not hold: up to 1e-7 of it a step, all to one side",
        );
    }
    // Emulated it rounds what it does on matrices.
    let variant = variant.strip_suffix("_emulated").unwrap_or(variant);
    if ["attention.coop_half", "attention.coop_int8"].contains(&variant) {
        return (
            1e-7,
            "weights, and values of int8 codes, rounded to f16: 2^-12 relative each, the smallest ones to 2^-25",
        );
    }
    if variant == "chunk_entering.coop" {
        return (
            1e-7,
            "x times its weights rounded to f16, 2^-12 relative, and states that enter a chunk so a step off",
        );
    }
    if variant == "chunk_scan.half_coop" {
        return (
            3e-7,
            "C and products times their weights rounded to f16, 2^-12 relative each, 1e-7 of y, which then is a step of f16 off",
        );
    }
    match variant.split('.').next().unwrap_or_default() {
        "chunk_state"
        | "state_passing"
        | "chunk_entering"
        | "chunk_scan"
        | "mamba2_tokens"
        | "mamba2_tokens_gated"
        | "mamba2_update"
        | "mamba2_update_gated"
        | "mamba2_update_int8"
        | "selective_state_update"
        | "attention"
        | "attention_split"
        | "attention_merge"
        | "attention_merge_codes"
        | "selective_state_update_int8"
        | "ssm_load"
        | "log_probs"
        | "kl_divergence" => {
            (1e-9, "exp within 3 + 2|x| ulp (WGSL 15.7.4.1) under sums over a chunk, a context or a vocabulary")
        }
        "causal_conv1d" | "rms_norm_gated" | "rms_norm_gated_quantize" | "chunk_cumsum" | "s_silu" => {
            (1e-10, "one exp or log within a few ulp an element: 1e-6 relative, squared 1e-12, outliers allowed for")
        }
        "rms_norm_matvec" | "rms_norm_gated_matvec" => (
            1e-6,
            "of each thousand codes one or two beyond a tie, where an exp and a norm are 1e-6 off: a step of 127",
        ),
        "argmax" | "argmax_merge" | "sample" => {
            // A draw could hang on rounding: `sample`'s setup refuses a case (asks for another seed) unless
            // `reference::sample::margin` puts it 1e-4 of the mass from any other outcome, thrice the worst error.
            (0.0, "integers, compared exactly")
        }
        "copy_peak" | "dot_peak" => (0.0, "integers, compared exactly"),
        "matmul_w8a8"
        | "matmul_w4a8"
        | "matvec_w8a8"
        | "matvec_w4a8"
        | "matvec_grouped"
        | "matvec_grouped_add"
        | "matvec_grouped_relu2" => {
            (1e-12, "exact int32 sums, then f32 products and a sum over at most a few hundred groups")
        }
        _ => (1e-11, "f32 products and sums: 6e-8 relative a step, over at most a few thousand terms"),
    }
}
