// Butterflies of the fast Walsh-Hadamard transform (QuaRot, arXiv:2404.00456): sums and differences of pairs of elements.

fn pairs(v: vec4<f32>) -> vec4<f32> {
    return vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
}

fn halves(v: vec4<f32>) -> vec4<f32> {
    return vec4(v.xy + v.zw, v.xy - v.zw);
}

// Between components 1 and 2 apart, then columns 1 and 2 apart: those levels that are below log_run.
fn butterflies(v: mat4x4<f32>, levels: vec4<u32>, log_run: u32) -> mat4x4<f32> {
    var m = v;
    if levels.x < log_run {
        m = mat4x4(pairs(m[0]), pairs(m[1]), pairs(m[2]), pairs(m[3]));
    }
    if levels.y < log_run {
        m = mat4x4(halves(m[0]), halves(m[1]), halves(m[2]), halves(m[3]));
    }
    if levels.z < log_run {
        m = mat4x4(m[0] + m[1], m[0] - m[1], m[2] + m[3], m[2] - m[3]);
    }
    if levels.w < log_run {
        m = mat4x4(m[0] + m[2], m[1] + m[3], m[0] - m[2], m[1] - m[3]);
    }
    return m;
}
