// Integer codes as f16, four of a word in the order 0, 2, 1, 3: a product of two such operands sums the same terms. The
// importing shader has `tile_x` and `PITCH` of coop.wgsl.

// Four codes, biased to be positive: the f16 0x6400 | b is 1024 + b. Converting integers is slow.
fn halves(biased: u32, zero: f16) -> vec4<f16> {
    let even = (biased & 0x00ff00ffu) | 0x64006400u;
    let odd = ((biased >> 8u) & 0x00ff00ffu) | 0x64006400u;
    return vec4<f16>(vec4(unpack2x16float(even), unpack2x16float(odd))) - vec4(zero);
}

fn halves8(word: u32) -> vec4<f16> {
    return halves(word ^ 0x80808080u, 1152h);
}

// Codes 0..4 of an int4 word; of `word >> 4`, codes 4..8.
fn halves4(word: u32) -> vec4<f16> {
    return halves((word & 0x0f0f0f0fu) ^ 0x08080808u, 1032h);
}

// 16 codes of a row of the tile: its first half or its second.
fn stage_codes(row: u32, half: u32, words: vec4<u32>) {
    let at = row * PITCH + 4u * half;
    tile_x[at] = halves8(words.x);
    tile_x[at + 1u] = halves8(words.y);
    tile_x[at + 2u] = halves8(words.z);
    tile_x[at + 3u] = halves8(words.w);
}
