//! The mutations: text of a preprocessed shader, and what it becomes.

/// Where a mutant must be caught.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shows {
    /// On every device.
    Always,
    /// On software drivers, which run a subgroup of 4 or 8 threads up to the next barrier before the next one starts, so
    /// that a missing barrier always shows. On a GPU it is a race that may end well; there it is run and counted, and
    /// may survive.
    InSoftware,
}

/// One broken shader.
pub(crate) struct Mutant {
    pub(crate) kernel: &'static str,
    pub(crate) name: &'static str,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) shows: Shows,
    /// The variant it is of; `None` for the plain ones.
    pub(crate) variant: Option<&'static str>,
}

const fn m(kernel: &'static str, name: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { kernel, name, from, to, shows: Shows::Always, variant: None }
}

const fn race(kernel: &'static str, name: &'static str, from: &'static str, to: &'static str) -> Mutant {
    Mutant { kernel, name, from, to, shows: Shows::InSoftware, variant: None }
}

/// Of one variant.
const fn of(
    kernel: &'static str,
    variant: &'static str,
    name: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutant {
    Mutant { kernel, name, from, to, shows: Shows::Always, variant: Some(variant) }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    m("absmax", "missing_abs", "max(m, abs(x[row + c]))", "max(m, x[row + c])"),
    m(
        "absmax",
        "off_by_one_tail",
        "c < min(start + params.group, params.cols)",
        "c + 1u < min(start + params.group, params.cols)",
    ),
    race("absmax", "missing_barrier", "workgroupBarrier();", ""),
    m("argmax", "highest_of_ties", "a.y < b.y", "a.y > b.y"),
    race("argmax", "missing_barrier", "workgroupBarrier();", ""),
    m("attention", "unmasked_causal", ", allowed);\n        scores", ", vec4(true));\n        scores"),
    m("attention", "missing_max_subtraction", "scores[row * PITCH + j] - new_peak", "scores[row * PITCH + j]"),
    m("attention", "old_sums_not_rescaled", "let factor = exp(*peak - new_peak);", "let factor = 1.0;"),
    m("attention", "wrong_head_mapping", "kv * repeats + row % repeats", "row % repeats * params.kv_heads + kv"),
    m("attention", "forgotten_scale", "params.scale * sa", "sa"),
    m("causal_conv1d", "forgotten_bias", "vec4(bias[c])", "vec4(0.0)"),
    m("causal_conv1d", "state_not_carried", "return state[channel * params.taps + at + 1u];", "return 0.0;"),
    m(
        "causal_conv1d_state",
        "off_by_one_token",
        "let source = j + params.tokens;",
        "let source = j + params.tokens - 1u;",
    ),
    m("causal_conv1d_update", "state_not_shifted", "state[row + j] = value;", ""),
    m("channel_stats", "third_power_twice", "(v * v) * (v * v)", "v * v * v"),
    m("channel_stats", "tail_off_by_one", "first + LANES * BLOCK, samples)", "first + LANES * BLOCK, samples - 1u)"),
    m("channel_stats", "offset_ignored", "params.offset + o", "o"),
    m("channel_stats", "a_lane_lost", "var lane = 1u", "var lane = 2u"),
    m("channel_stats", "bins_by_sign", "& 0x7fffffffu", "& 0xffffffffu"),
    m("channel_stats", "counts_forgotten", "counts[item * BINS + b] += ", "counts[item * BINS + b] = "),
    m("channel_stats", "range_forgotten", "= min(range[channel], seen.x)", "= seen.x"),
    race(
        "channel_stats",
        "missing_barrier",
        "powers[thread] = sum;\n    }\n    workgroupBarrier();",
        "powers[thread] = sum;\n    }",
    ),
    m("chunk_cumsum", "missing_clamp", "clamp(softplus(raw), params.dt_min, params.dt_max)", "softplus(raw)"),
    m("chunk_cumsum", "tiles_not_carried", "before += sums[WG - 1u];", "before = sums[WG - 1u];"),
    m("chunk_cumsum", "softplus_without_threshold", "select(log1p_exp(x), x, x > 20.0)", "log1p_exp(x)"),
    m("chunk_scan", "own_token_masked", "<= vec4(l)", "< vec4(l)"),
    m("chunk_scan", "forgotten_skip", "sum + d[head] * x", "sum"),
    m("chunk_scan", "wrong_group", "head / (params.heads / params.groups)", "head % params.groups"),
    // Not chunk_scan's: its 8 threads of a row are neighbours, in step on any driver with subgroups of 8 or more.
    m("chunk_state", "wrong_group", "head / (params.heads / params.groups)", "head % params.groups"),
    m("chunk_state", "forgotten_step_size", "* dt[l]", ""),
    race("chunk_state", "missing_barrier", "workgroupBarrier();\n        let count", "let count"),
    m("dequantize", "wrong_group", "col / params.group]", "col / (params.group + 1u)]"),
    m("embed", "first_half_only", "unpack2x16float(word)[col % 2u]", "unpack2x16float(word)[0]"),
    m("embed", "wrong_row", "min(ids[i / params.cols], params.vocab - 1u)", "min(ids[0], params.vocab - 1u)"),
    m("embed_w8", "swapped_scales", "scales[id]", "scales[row]"),
    m("fma_peak", "a_chain_lost", "a + b + c + d", "a + b + c"),
    m("gram", "columns_of_the_other", "t * params.m + c0", "t * params.n + c0"),
    m("gram", "old_total_forgotten", "two_sum(sums[at], sum[i][j]", "two_sum(0.0, sum[i][j]"),
    m(
        "gram",
        "transposed_block",
        "return mat4x4(x.x * y, x.y * y, x.z * y, x.w * y);",
        "return mat4x4(y.x * x, y.y * x, y.z * x, y.w * x);",
    ),
    m("gram", "tail_off_by_one", "r < params.n &&", "r + 1u < params.n &&"),
    m("hadamard", "sign", "m[0] - m[1], m[2] + m[3]", "m[1] - m[0], m[2] + m[3]"),
    m("hadamard", "forgotten_scale", " * params.scale", ""),
    race("hadamard", "missing_barrier", "butterflies(read, 8u));\n    workgroupBarrier();", "butterflies(read, 8u));"),
    m("hadamard_mix", "wrong_bits", "vec4(16u, 32u, 64u, 128u)", "vec4(1u, 2u, 4u, 8u)"),
    m("kv_append", "cursor_ignored", "cursor[0] * params.width + i", "i"),
    m("matmul_f32", "off_by_one_tail", "if col < params.n", "if col + 1u < params.n"),
    m("matmul_f32", "k_beyond_the_end", "k + 3u) > vec4(last)", "k + 3u) > vec4(last + 1u)"),
    m("matmul_f32", "residual_lost", "result += out[index];", ""),
    of("matmul_f32", "f16_tiled", "tiled_k_beyond_the_end", "select(0.0, value, k < params.k)", "value"),
    of("matmul_f32", "f16_tiled", "steps_swapped", "vec4(a.x, b.x, c.x, d.x)", "vec4(a.y, b.y, c.y, d.y)"),
    m("matmul_w4a16", "swapped_scales", "codes4_low(words.y)) * scale.y", "codes4_low(words.y)) * scale.x"),
    m("matmul_w4a8", "wrong_nibble_order", "multiply_add(s00, x0, low(w0))", "multiply_add(s00, x0, high(w0))"),
    m("matmul_w4a8", "forgotten_sixteenth", "sixteenth(s00), token0", "s00, token0"),
    m("matmul_w4a8", "wrong_span", "min(params.group, params.x_group)", "max(params.group, params.x_group)"),
    of(
        "matmul_w4a8",
        "coop_emulated",
        "coop_nibbles_swapped",
        "tile_w[at + 1u] = halves4(words.x >> 4u)",
        "tile_w[at + 1u] = halves4(words.x)",
    ),
    of("matmul_w8a8", "coop_emulated", "coop_bias_off_by_one", "0x80808080u, 1152h", "0x80808080u, 1151h"),
    of(
        "matmul_w8a8",
        "coop_emulated",
        "coop_first_scales",
        "stage_scales(place.thread, row0, col0, first)",
        "stage_scales(place.thread, row0, col0, 0u)",
    ),
    of(
        "matmul_w8a8",
        "coop_emulated",
        "coop_wrong_matrix",
        "let a2 = left(a + 32u * PITCH);",
        "let a2 = left(a + 48u * PITCH);",
    ),
    of("matmul_w8a8", "coop_emulated", "coop_tail_lost", "if row < params.m", "if row + 1u < params.m"),
    of("matmul_w8a8", "blocks", "wrong_half", "put_codes(row, 4u * half + 1u", "put_codes(row, 4u * half + 2u"),
    of(
        "matmul_w4a8",
        "blocks",
        "wrong_nibbles",
        "4u * half + 1u, high4_times_16(words.x)",
        "4u * half + 1u, low4_times_16(words.x)",
    ),
    m("matmul_w8a8", "one_x_group", "let token0 = row_scales(at.row, first);", "let token0 = row_scales(at.row, 0u);"),
    m("matmul_w8a8", "swapped_scales", "s00, token0, scale0", "s00, token1, scale0"),
    m(
        "matmul_w8a8",
        "wrong_group",
        "let scale0 = column_scales(at.col, first);",
        "let scale0 = column_scales(at.col, 0u);",
    ),
    m("matmul_w8a8", "saturating_dot", "dot_codes(x, weight.x)", "min(dot_codes(x, weight.x), 65535)"),
    m("matvec_f32", "wrong_row_stride", "rows4(row) * words + at", "rows4(row) * params.k + at"),
    m("matvec_f32", "thread_stride", "word += WG", "word += WG / 2u"),
    race(
        "matvec_f32",
        "missing_barrier",
        "workgroupBarrier();\n    var sum = value;\n    if thread < 8u {\n        for (var i = thread + 8u; i < WG; i += 8u) {\n            sum += bitcast<vec4<f32>>",
        "var sum = value;\n    if thread < 8u {\n        for (var i = thread + 8u; i < WG; i += 8u) {\n            sum += bitcast<vec4<f32>>",
    ),
    m("matvec_w4a16", "wrong_nibble_order", "let high = x4(8u * at + 4u);", "let high = x4(8u * at);"),
    m(
        "matvec_w4a8",
        "wrong_nibble_order",
        "dot_codes(first, low4_times_16(word))",
        "dot_codes(first, high4_times_16(word))",
    ),
    m("matvec_w4a8", "wrong_x_group", "scales[first / params.x_group]", "scales[word / params.x_group]"),
    m("matvec_w8a8", "wrong_group", "first / params.group)", "word / params.group)"),
    m("matvec_w8a8", "wrong_x_group", "scales[first / params.x_group]", "scales[first / params.group]"),
    m("matvec_w8a8", "one_threads_sum", "vec4<f32>(workgroup_sum4i(sums, place))", "vec4<f32>(sums)"),
    m("probe_barrier", "lost_element", "i + half < n", "i + half + 1u < n"),
    race("probe_barrier", "missing_barrier", "workgroupBarrier();\n        let half", "let half"),
    m("probe_float", "exp_for_silu", "bitcast<u32>(silu(v))", "bitcast<u32>(exp(v))"),
    m("probe_float", "softplus_without_threshold", "select(log1p_exp(x), x, x > 20.0)", "log1p_exp(x)"),
    m("probe_float", "wrong_half", "unpack2x16float(bits).x", "unpack2x16float(bits).y"),
    m("probe_subgroup", "lane_of_thread", "let lane = place.lane;", "let lane = place.thread;"),
    m("probe_subgroup", "off_by_one_tail", "i < min(lane, LANES)", "i + 1u < min(lane, LANES)"),
    m("probe_subgroup", "sum_of_one_subgroup", "atomicAdd(&total, sum)", "atomicMax(&total, sum)"),
    m(
        "quantize_tokens",
        "first_teams_scale",
        "return reduce_scratch[place.thread - member];",
        "return reduce_scratch[0];",
    ),
    m("quantize_tokens", "bundles_of_one_row", "bundle % bundles * teams", "bundle * teams"),
    m("quantize_tokens", "truncation", "round(v * inverse)", "trunc(v * inverse)"),
    m(
        "quantize_tokens",
        "missing_floor",
        "select(127.0 / largest, 0.0, largest < SMALLEST)",
        "127.0 / max(largest, 1e-36)",
    ),
    race(
        "quantize_tokens",
        "missing_barrier",
        "workgroupBarrier();\n        if thread < half {\n            reduce_scratch[thread] = max",
        "if thread < half {\n            reduce_scratch[thread] = max",
    ),
    m(
        "quantize_weight",
        "missing_clamp",
        "clamp(round(w[row * params.cols + col] / scale), -MOST, MOST)",
        "round(w[row * params.cols + col] / scale)",
    ),
    m(
        "quantize_weight",
        "halves_up",
        "round(w[row * params.cols + col] / scale)",
        "floor(w[row * params.cols + col] / scale + 0.5)",
    ),
    m(
        "quantize_weight",
        "wrong_nibble_order",
        "pack_nibbles(four(row, col), four(row, col + 4u))",
        "pack_nibbles(four(row, col + 4u), four(row, col))",
    ),
    m("relu_squared", "forgotten_relu", "max(x[i], 0.0)", "x[i]"),
    m("rms_norm", "dropped_epsilon", " + params.eps", ""),
    m(
        "rms_norm",
        "off_by_one_tail",
        "c < params.cols; c += WG) {\n        let v",
        "c + 1u < params.cols; c += WG) {\n        let v",
    ),
    race(
        "rms_norm",
        "missing_barrier",
        "workgroupBarrier();\n        if thread < half {\n            reduce_scratch[thread] +=",
        "if thread < half {\n            reduce_scratch[thread] +=",
    ),
    m("rms_norm_gated", "wrong_group", "params.gate_offset + column", "params.gate_offset"),
    m(
        "rms_norm_gated",
        "forgotten_gate",
        "let v = y[start + c] * silu(gate[gate_start + c]);",
        "let v = y[start + c];",
    ),
    m("s_silu", "scale_outside", "-scale[i % params.cols] * v", "-v"),
    m("s_silu", "wrong_column", "scale[i % params.cols]", "scale[i / params.cols]"),
    m("sample", "top_k_ignored", "if params.top_k > 0u", "if params.top_k > 1000000u"),
    m("sample", "counter_not_advanced", "rng[1] = rng[1] + 1u;", "rng[1] = rng[1];"),
    m("scale_channels", "wrong_column", "scale[i % params.cols]", "scale[i / params.cols]"),
    m("selective_state_update", "state_not_carried", "ssm_state[row * width + n] = value;", ""),
    m("selective_state_update", "missing_decay", "decay * ssm_state[row * width + n]", "ssm_state[row * width + n]"),
    m("selective_state_update", "lost_lane", "i < LANES; i++", "i < LANES - 1u; i++"),
    m("state_passing", "state_not_carried", "var value = ssm_state[i];", "var value = vec4(0.0);"),
    m("state_passing", "decay_of_first_token", "head * params.tokens + last", "head * params.tokens + first"),
];
