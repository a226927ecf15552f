// f32 numbers as two f16 each, whose sum they are: the first 11 of their bits and the next 11 (as in Markidis et al. 2018,
// arXiv:1803.04014). Numbers that share a scale are brought to 2^14 .. 2^15 by a power of two, the largest of them, so
// that neither large nor small ones leave the range of f16. What is below 2^-24 there, 2^-38 of the largest and less, is cut off.

// Biased exponents of the largest numbers, so that neither scale is a subnormal number.
fn exponents_of(largest: vec4<f32>) -> vec4<u32> {
    return clamp(bitcast<vec4<u32>>(largest) >> vec4(23u), vec4(15u), vec4(254u));
}

// What numbers are multiplied with.
fn up_of(exponents: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((vec4(268u) - exponents) << vec4(23u));
}

// What the sums of halves are multiplied with.
fn down_of(exponents: vec4<u32>) -> vec4<f32> {
    return bitcast<vec4<f32>>((exponents - vec4(14u)) << vec4(23u));
}

// As many bits as f16 has, above 2^-24. Cut off as integers: of x - f32(f16(x)) NVIDIA's compiler makes 0.
fn cut(x: vec4<f32>) -> vec4<f32> {
    let first = bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4(0xffffe000u));
    return trunc(first * 16777216.0) * 5.9604645e-8;
}

fn packed(x: vec4<f32>) -> vec2<u32> {
    return vec2(pack2x16float(x.xy), pack2x16float(x.zw));
}
