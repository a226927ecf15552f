// Operands of shapes in blocks (`kernels::scaled`), whose rows are whole vec4s of words: 16 codes at a time, clamped to the last row.
// Beyond the last column `fetch_*` give zeros and `raw_*` the last columns again. The importing shader has the bindings `codes` and
// `weight`.

fn raw_codes(row: u32, col: u32) -> vec4<u32> {
    return codes[min(row, params.m - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
}

fn fetch_codes(row: u32, col: u32) -> vec4<u32> {
    return select(vec4(0u), raw_codes(row, col), col < params.k);
}

fn raw_weight8(row: u32, col: u32) -> vec4<u32> {
    return weight[min(row, params.n - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
}

fn fetch_weight8(row: u32, col: u32) -> vec4<u32> {
    return select(vec4(0u), raw_weight8(row, col), col < params.k);
}

// Two threads read the same vector: it is their row's 32 codes.
fn fetch_weight4(row: u32, col: u32) -> vec2<u32> {
    let words = weight[min(row, params.n - 1u) * (params.k / 32u) + min(col, params.k - 32u) / 32u];
    return select(words.xy, words.zw, col % 32u >= 16u);
}
