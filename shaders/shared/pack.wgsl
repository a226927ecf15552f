// Packed integer codes; the twin of src/pack.rs.
//
//   int8:  word = | e3 | e2 | e1 | e0 |               byte j = code j
//   int4:  word = | e7 e3 | e6 e2 | e5 e1 | e4 e0 |   low nibble of byte j = code j, high nibble = code j + 4

// Four int8 codes.
fn codes8(word: u32) -> vec4<i32> {
    return unpack4xI8(word);
}

// Codes 0..3 of an int4 word, as four int8 that are 16 times their value.
fn low4_times_16(word: u32) -> u32 {
    return (word << 4u) & 0xf0f0f0f0u;
}

// Codes 4..7, likewise.
fn high4_times_16(word: u32) -> u32 {
    return word & 0xf0f0f0f0u;
}

// Codes 0..3 and 4..7 of an int4 word.
fn codes4_low(word: u32) -> vec4<i32> {
    return unpack4xI8(low4_times_16(word)) >> vec4<u32>(4u);
}

fn codes4_high(word: u32) -> vec4<i32> {
    return unpack4xI8(high4_times_16(word)) >> vec4<u32>(4u);
}

// An int4 word of codes 0..3 and codes 4..7, each packed as int8.
fn pack_nibbles(low: u32, high: u32) -> u32 {
    return (low & 0x0f0f0f0fu) | ((high & 0x0f0f0f0fu) << 4u);
}

// Four numbers below 2^22 rounded to the nearest, ties to even, the last 8 bits of each: an H100 converts a quarter as many numbers at a
// time as it adds, and 1.5 * 2^23 + v has the integer in its last bits. The other way round it is no use: of (2^23 + n) - 2^23 times a
// constant NVIDIA's compiler makes a product and a sum that are rounded.
fn rounded8(v: vec4<f32>) -> u32 {
    return last_bytes(bitcast<vec4<u32>>(v + vec4(12582912.0)));
}

fn last_bytes(words: vec4<u32>) -> u32 {
    let bytes = words & vec4(0xffu);
    return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
