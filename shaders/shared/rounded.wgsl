// Codes of a stored state, to the nearest or, with the words `stochastic` or `quads_stochastic`, up or down by a draw; and what they lose.
#import hash
#import pack

const SMALLEST = 1e-35; // below, scale or its inverse would leave the range of normal floats

// Elements from `i` on, by which they are drawn.
fn rounded(v: vec4<f32>, i: u32) -> vec4<f32> {
#ifdef stochastic quads_stochastic
    let bits = vec4(hash(i), hash(i + 1u), hash(i + 2u), hash(i + 3u)) >> vec4(8u);
    return floor(v + vec4<f32>(bits) / 16777216.0);
#else
    return round(v);
#endif
}

fn lost_of(v: vec4<f32>, code: vec4<f32>) -> u32 {
    return rounded8((v - code) * 14.0);
}

fn word_of(code: vec4<f32>) -> u32 {
    return rounded8(clamp(code, vec4(-127.0), vec4(127.0)));
}
