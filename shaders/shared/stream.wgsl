// Rows of the stream, to which what slices of a product gave is added first (split-K; split_k_reduce.wgsl): a launch less. The importing shader imports spans and
// has the bindings `x` and `sums` and `params.slices`, 0 where there are none.

fn quads_of(start: u32, at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(sums[start + at.x], sums[start + at.y], sums[start + at.z], sums[start + at.w]);
}

// Quads `at`, clamped, of the row that starts at quad `start`.
fn inputs(start: u32, at: vec4<u32>) -> mat4x4<f32> {
    let m = mat4x4(x[start + at.x], x[start + at.y], x[start + at.z], x[start + at.w]);
    if params.slices == 0u {
        return m;
    }
    var total = quads_of(start, at);
    for (var s = 1u; s < params.slices; s++) {
        total += quads_of(s * params.rows * row_quads() + start, at);
    }
    return m + total;
}

// Where there were slices, what the row is now. Behind a barrier: threads may have read the last quad of another.
fn keep(start: u32, spots: vec4<u32>, m: mat4x4<f32>) {
    let is_there = within(spots) & vec4(params.slices > 0u);
    if is_there.x {
        x[start + spots.x] = m[0];
    }
    if is_there.y {
        x[start + spots.y] = m[1];
    }
    if is_there.z {
        x[start + spots.z] = m[2];
    }
    if is_there.w {
        x[start + spots.w] = m[3];
    }
}
