// Keys out of a cache: elements 4i..4i+4 of a row, beyond its end anything. The importing shader has `params`, `k_cache`, and for codes
// imports kv_codes, kv_values and pack.

#ifdef quads blocks
fn k4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(k_cache[row * (params.head_dim / 4u) + i]);
}
#endif
#ifdef half half_blocks
fn k4(row: u32, i: u32) -> vec4<f32> {
    let words = k_cache[row * (params.head_dim / 4u) + i];
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}
#endif
#ifdef half_scalars
fn k4(row: u32, i: u32) -> vec4<f32> {
    let last = code_at(row, row_words() - 1u);
    let at = code_at(row, 2u * i);
    return vec4(unpack2x16float(k_cache[at]), unpack2x16float(k_cache[min(at + 1u, last)]));
}
#endif
#ifdef int8 int8_blocks int8_scalars
fn k4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<f32>(k_cache[scale_at(row, i)]) * vec4<f32>(codes8(k_cache[code_at(row, i)]));
}
#endif
#ifdef int4 int4_scalars
fn k4(row: u32, i: u32) -> vec4<f32> {
    return bitcast<f32>(k_cache[scale_at(row, i / 2u)]) * 0.0625 * half_word(k_cache[code_at(row, i / 2u)], i);
}
#endif
