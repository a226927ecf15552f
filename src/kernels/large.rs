//! Cases of real models' sizes: for timing, and for GPUs with the memory. The reference takes seconds to minutes.

use super::attention::case as attention;
use super::attention_split::case as attention_split;
use super::check::Case;
use super::grouped_rows::grouped_case;

/// A mixer of Nemotron-H-8B, of several sequences.
macro_rules! mamba {
    ($name:expr, $sequences:expr $(, [$tokens:expr, $rows:expr] = $n:expr)?) => {
        Case {
            name: $name,
            args: &[
                ("heads", 128.0),
                ("head_dim", 64.0),
                ("groups", 8.0),
                ("state", 128.0),
                ("taps", 4.0),
                ("bias", -4.0),
                ("a_log", 1.5),
                ("chunk", 1.0),
                ("sequences", $sequences),
                $(($tokens, $n), ($rows, $n),)?
            ],
        }
    };
}

/// A token of each of several sequences times a weight with groups of 128 and scales of bf16: rows, outputs, inputs.
macro_rules! rows_of_8b {
    ($name:expr, [$m:expr, $n:expr, $k:expr], $epilogue:expr) => {
        Case {
            name: $name,
            args: &[("m", $m), ("n", $n), ("k", $k), ("group", 128.0), ("short_scales", 1.0), ("epilogue", $epilogue)],
        }
    };
}

/// By kernel. Nemotron-H-8B with a prompt of 2048 or 4096 tokens.
pub const LARGE: &[(&str, Case)] = &[
    (
        "matmul_f32",
        Case { name: "square_4096_f16", args: &[("m", 4096.0), ("n", 4096.0), ("k", 4096.0), ("dtype", 1.0)] },
    ),
    ("matmul_w8a8", Case { name: "square_4096", args: &[("m", 4096.0), ("n", 4096.0), ("k", 4096.0)] }),
    ("matmul_w8a8", Case { name: "8b_up_proj", args: &[("m", 4096.0), ("n", 21504.0), ("k", 4096.0)] }),
    ("matmul_w8a8", Case { name: "8b_down_proj", args: &[("m", 2048.0), ("n", 4096.0), ("k", 21504.0)] }),
    (
        "matmul_w8a8",
        Case { name: "8b_up_proj_x32", args: &[("m", 4096.0), ("n", 21504.0), ("k", 4096.0), ("x_group", 32.0)] },
    ),
    ("matmul_w4a8", Case { name: "8b_up_proj", args: &[("m", 4096.0), ("n", 21504.0), ("k", 4096.0)] }),
    (
        "matmul_w4a8",
        Case { name: "8b_up_proj_g128", args: &[("m", 4096.0), ("n", 21504.0), ("k", 4096.0), ("group", 128.0)] },
    ),
    (
        "matmul_w4a8",
        Case { name: "8b_up_proj_g32", args: &[("m", 4096.0), ("n", 21504.0), ("k", 4096.0), ("group", 32.0)] },
    ),
    ("matmul_w4a8", rows_of_8b!("8b_up_proj_g128_of_8", [8.0, 21504.0, 4096.0], 0.0)),
    ("matmul_w4a8", rows_of_8b!("8b_down_proj_g128_of_8", [8.0, 4096.0, 21504.0], 2.0)),
    ("matmul_w4a8", rows_of_8b!("8b_up_proj_g128_of_32", [32.0, 21504.0, 4096.0], 0.0)),
    ("matmul_w4a8", rows_of_8b!("8b_down_proj_g128_of_32", [32.0, 4096.0, 21504.0], 2.0)),
    ("matmul_w4a8", rows_of_8b!("8b_up_proj_g128_of_64", [64.0, 21504.0, 4096.0], 0.0)),
    ("matmul_w4a8", rows_of_8b!("8b_down_proj_g128_of_64", [64.0, 4096.0, 21504.0], 2.0)),
    ("matvec_w8a8", Case { name: "8b_up_proj", args: &[("n", 21504.0), ("k", 4096.0)] }),
    ("matvec_w8a8", Case { name: "8b_up_proj_x32", args: &[("n", 21504.0), ("k", 4096.0), ("x_group", 32.0)] }),
    ("matvec_w4a8", Case { name: "8b_up_proj_g128", args: &[("n", 21504.0), ("k", 4096.0), ("group", 128.0)] }),
    ("matvec_w8a8", Case { name: "8b_down_proj", args: &[("n", 4096.0), ("k", 21504.0), ("epilogue", 2.0)] }),
    (
        "matvec_w4a8",
        Case { name: "8b_down_proj_g128", args: &[("n", 4096.0), ("k", 21504.0), ("group", 128.0), ("epilogue", 2.0)] },
    ),
    (
        "matvec_w4a8",
        Case { name: "8b_out_proj_g128", args: &[("n", 4096.0), ("k", 8192.0), ("group", 128.0), ("epilogue", 2.0)] },
    ),
    ("mamba2_update", mamba!("8b_two_tokens", 1.0)),
    ("mamba2_update", mamba!("8b_two_tokens_of_8", 8.0)),
    ("mamba2_update", mamba!("8b_two_tokens_of_64", 64.0)),
    ("mamba2_update_gated", mamba!("8b_two_tokens", 1.0)),
    ("mamba2_tokens", mamba!("8b_sixteen", 1.0, ["tokens", "rows"] = 16.0)),
    ("mamba2_tokens_gated", mamba!("8b_two", 1.0, ["tokens", "rows"] = 2.0)),
    ("mamba2_tokens_gated", mamba!("8b_eight", 1.0, ["tokens", "rows"] = 8.0)),
    ("matvec_grouped", grouped_case!("8b_in_proj_g128", 4.0, [18560.0, 4096.0, 128.0], 4096.0)),
    ("matvec_grouped_relu2", grouped_case!("8b_up_proj_g128", 4.0, [21504.0, 4096.0, 128.0], 4096.0, 32.0)),
    ("matvec_grouped_add", grouped_case!("8b_down_proj_g128", 4.0, [4096.0, 21504.0, 128.0], 0.0)),
    ("matvec_grouped_add", grouped_case!("8b_out_proj_g128", 4.0, [4096.0, 8192.0, 128.0], 1024.0)),
    ("hadamard_groups", Case { name: "2048x21504", args: &[("rows", 2048.0), ("cols", 21504.0), ("block", 32.0)] }),
    ("selective_state_update", mamba!("8b_token", 1.0)),
    (
        "quantize_static",
        Case { name: "beyond_one_grid_axis", args: &[("rows", 8.0), ("cols", 2_097_157.0), ("size", 1.0)] },
    ),
    ("quantize_static", Case { name: "8b_hidden", args: &[("rows", 4096.0), ("cols", 4096.0), ("size", 1.0)] }),
    ("quantize_tokens", Case { name: "8b_hidden", args: &[("rows", 4096.0), ("cols", 4096.0), ("size", 1.0)] }),
    (
        "quantize_tokens",
        Case { name: "8b_hidden_x32", args: &[("rows", 4096.0), ("cols", 4096.0), ("size", 1.0), ("group", 32.0)] },
    ),
    ("rms_norm_quantize", Case { name: "8b_hidden", args: &[("rows", 2048.0), ("cols", 4096.0)] }),
    (
        "rms_norm_gated_quantize",
        Case {
            name: "8b_inner",
            args: &[
                ("rows", 2048.0),
                ("d", 8192.0),
                ("groups", 8.0),
                ("offset", 0.0),
                ("stride", 18560.0),
                ("block", 1024.0),
                ("group", 8192.0),
            ],
        },
    ),
    ("hadamard", Case { name: "rows_of_4096", args: &[("rows", 16384.0), ("cols", 4096.0), ("block", 4096.0)] }),
    (
        "hadamard",
        Case {
            name: "rows_of_4096_f16",
            args: &[("rows", 16384.0), ("cols", 4096.0), ("block", 4096.0), ("bits", 16.0)],
        },
    ),
    ("hadamard_quantize", Case { name: "rows_of_4096", args: &[("rows", 16384.0), ("cols", 4096.0), ("run", 4096.0)] }),
    (
        "hadamard_quantize",
        Case {
            name: "rows_of_4096_f16",
            args: &[("rows", 16384.0), ("cols", 4096.0), ("run", 4096.0), ("bits", 16.0)],
        },
    ),
    ("hadamard_whole", Case { name: "8b_mlp", args: &[("rows", 2048.0), ("order", 84.0), ("size", 1.0)] }),
    ("hadamard_mix_quantize", Case { name: "8b_mlp", args: &[("rows", 2048.0), ("order", 84.0), ("size", 1.0)] }),
    ("hadamard_quantize", Case { name: "8b_mlp", args: &[("rows", 2048.0), ("cols", 21504.0), ("run", 256.0)] }),
    (
        "hadamard_mix",
        Case { name: "8b_mlp", args: &[("rows", 2048.0), ("cols", 21504.0), ("order", 84.0), ("stride", 256.0)] },
    ),
    ("attention", attention!("8b_prompt_after_2k_half", 16.0, 1024.0, 2048.0, 3072.0, [32.0, 8.0, 128.0], 1.0)),
    ("attention", attention!("8b_prompt_after_2k_int8", 8.0, 1024.0, 2048.0, 3072.0, [32.0, 8.0, 128.0], 1.0)),
    ("attention", attention!("8b_token_of_32k", 32.0, 1.0, 32767.0, 32768.0, [32.0, 8.0, 128.0], 1.0)),
    ("attention", attention!("8b_token_of_32k_int8", 8.0, 1.0, 32767.0, 32768.0, [32.0, 8.0, 128.0], 1.0)),
    ("attention", attention!("8b_token_of_32k_int4", 4.0, 1.0, 32767.0, 32768.0, [32.0, 8.0, 128.0], 1.0)),
    ("attention_split", attention_split!("8b_token_of_2k", 32.0, [1.0, 2047.0, 4096.0], [32.0, 8.0, 128.0], 32.0)),
    ("attention_split", attention_split!("8b_token_of_2k_int8", 8.0, [1.0, 2047.0, 4096.0], [32.0, 8.0, 128.0], 32.0)),
    ("attention_split", attention_split!("8b_token_of_32k", 32.0, [1.0, 32767.0, 32768.0], [32.0, 8.0, 128.0], 32.0)),
    (
        "attention_split",
        attention_split!("8b_token_of_32k_int8", 8.0, [1.0, 32767.0, 32768.0], [32.0, 8.0, 128.0], 32.0),
    ),
    (
        "attention_split",
        attention_split!("8b_token_of_32k_int4", 4.0, [1.0, 32767.0, 32768.0], [32.0, 8.0, 128.0], 32.0),
    ),
];
