// Values out of a cache, four elements at a time. The importing shader has `params`, `v_cache`, and for codes imports
// kv_codes and pack.

#ifdef quads blocks
// Elements 4i..4i+4 of a row of the cache.
fn v4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(v_cache[row * (params.head_dim / 4u) + i]);
}
#endif
#ifdef half half_blocks
// Elements 4i..4i+4 of a row of the cache.
fn v4(row: u32, i: u32) -> vec4<f32> {
    let words = v_cache[row * (params.head_dim / 4u) + i];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
#endif
#ifdef half_scalars
// Elements 4i..4i+4 of a row of the cache; beyond its end anything.
fn v4(row: u32, i: u32) -> vec4<f32> {
    let last = code_at(row, row_words() - 1u);
    let at = code_at(row, 2u * i);
    return vec4(unpack2x16float(v_cache[at]), unpack2x16float(v_cache[min(at + 1u, last)]));
}
#endif
#ifdef int8 int8_blocks int8_scalars
// Elements 4i..4i+4 of a row of the cache; beyond its end anything.
fn v4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<f32>(v_cache[scale_at(row, i)]) * vec4<f32>(codes8(v_cache[code_at(row, i)]));
}
#endif
#ifdef int4 int4_scalars
// Four codes of half a word, times 16.
fn half_word(word: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(codes8((word << (4u - i % 2u * 4u)) & 0xf0f0f0f0u));
}

// Elements 4i..4i+4 of a row of the cache; beyond its end anything.
fn v4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<f32>(v_cache[scale_at(row, i / 2u)]) * 0.0625 * half_word(v_cache[code_at(row, i / 2u)], i);
}
#endif
