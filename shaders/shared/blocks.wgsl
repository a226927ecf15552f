// Tokens of shapes in blocks (`kernels::scaled`), whose rows are whole vec4s of words: 16 codes at a time, clamped to the last row.
// Beyond the last column `fetch_codes` gives zeros and `raw_codes` the last columns again. The importing shader has the binding `codes`.

fn raw_codes(row: u32, col: u32) -> vec4<u32> {
    return codes[min(row, params.m - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
}

fn fetch_codes(row: u32, col: u32) -> vec4<u32> {
    return select(vec4(0u), raw_codes(row, col), col < params.k);
}
