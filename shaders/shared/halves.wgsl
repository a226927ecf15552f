// Integer codes as f16, four of a word in the order 0, 2, 1, 3: a product of two such operands sums the same terms. The
// importing shader has `tile_x` and `PITCH` (coop_tiles.wgsl), and `params.epilogue`.

// Converting integers is slow, but the f16 0x6400 | b is 1024 + b: `even` and `odd` have two such halves each.
fn halves(even: u32, odd: u32, zero: f16) -> vec4<f16> {
    return vec4<f16>(vec4(unpack2x16float(even), unpack2x16float(odd))) - vec4(zero);
}

// A constant that the compiler cannot see: it keeps it in a register, and mask and bias are one instruction on an H100. Not
// in `rows` and `groups`, which gain nothing from it, nor in `blocks`.
fn hidden(constant: u32) -> u32 {
#ifdef rows groups blocks
    return constant;
#else
    return constant + (params.epilogue >> 8u);
#endif
}

// Codes biased to be positive.
fn halves8(word: u32) -> vec4<f16> {
    let bias = hidden(0x64806480u);
    return halves((word & 0x00ff00ffu) ^ bias, ((word >> 8u) & 0x00ff00ffu) ^ bias, 1152h);
}

// Codes 0..4 of an int4 word; of `word >> 4`, codes 4..8.
fn halves4(word: u32) -> vec4<f16> {
    let bias = hidden(0x64086408u);
    return halves((word & 0x000f000fu) ^ bias, ((word >> 8u) & 0x000f000fu) ^ bias, 1032h);
}

// 16 codes of a row of the tile: its first half or its second.
fn stage_codes(row: u32, half: u32, words: vec4<u32>) {
    let at = row * PITCH + 4u * half;
    tile_x[at] = halves8(words.x);
    tile_x[at + 1u] = halves8(words.y);
    tile_x[at + 2u] = halves8(words.z);
    tile_x[at + 3u] = halves8(words.w);
}
