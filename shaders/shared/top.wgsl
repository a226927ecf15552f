// Largest magnitudes.

fn top(v: vec4<f32>) -> f32 {
    let pair = max(abs(v.xy), abs(v.zw));
    return max(pair.x, pair.y);
}

fn top16(m: mat4x4<f32>) -> f32 {
    let quads = max(max(abs(m[0]), abs(m[1])), max(abs(m[2]), abs(m[3])));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}
