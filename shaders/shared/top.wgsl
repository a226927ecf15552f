// Largest magnitudes, of NaN infinity: the maximum of floats drops it, and codes of what is none would be numbers like others. Bits of
// magnitudes are in their order.

const INFINITE = 0x7f800000u;

fn magnitude(v: f32) -> f32 {
    return bitcast<f32>(min(bitcast<u32>(v) & 0x7fffffffu, INFINITE));
}

fn magnitudes(v: vec4<f32>) -> vec4<u32> {
    return bitcast<vec4<u32>>(v) & vec4(0x7fffffffu);
}

fn top_of(m: vec4<u32>) -> f32 {
    let pair = max(m.xy, m.zw);
    return bitcast<f32>(min(max(pair.x, pair.y), INFINITE));
}

fn top(v: vec4<f32>) -> f32 {
    return top_of(magnitudes(v));
}

// Of numbers, NaN left out.
fn top16_of_numbers(m: mat4x4<f32>) -> f32 {
    let quads = max(max(abs(m[0]), abs(m[1])), max(abs(m[2]), abs(m[3])));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}

fn top16(m: mat4x4<f32>) -> f32 {
    return top_of(max(max(magnitudes(m[0]), magnitudes(m[1])), max(magnitudes(m[2]), magnitudes(m[3]))));
}
