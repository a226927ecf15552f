// The sum of products of the four int8 codes of two words. Exact, so both forms give the same bits; without the
// word `packed_dot` it is shifts and multiplications only, for drivers whose packed product is slow or wrong.

fn dot_codes(x: u32, y: u32) -> i32 {
#ifdef packed_dot
    return dot4I8Packed(x, y);
#else
    return dot(spread_codes(x), spread_codes(y));
#endif
}

#ifndef packed_dot
fn spread_codes(word: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u);
}
#endif
