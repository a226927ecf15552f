// The first 11 bits of numbers, as many as f16 has. Cut off as integers: of x - f32(f16(x)) NVIDIA's compiler makes 0.
fn first_bits(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4(0xffffe000u));
}
