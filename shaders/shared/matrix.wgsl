// 4x4 register tiles.

// Every column times its own factor.
fn scale_columns(m: mat4x4<f32>, factor: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(m[0] * factor.x, m[1] * factor.y, m[2] * factor.z, m[3] * factor.w);
}
