// Four rows of a line over the rows of a weight. The importing shader has `params.rows` and `scales`.

// Indices of four rows of a line, those beyond the end clamped.
fn four(line: u32, row: u32) -> vec4<u32> {
    return line * params.rows + min(row + vec4(0u, 1u, 2u, 3u), vec4(params.rows - 1u));
}

fn scales4(i: vec4<u32>) -> vec4<f32> {
    return vec4(scales[i.x], scales[i.y], scales[i.z], scales[i.w]);
}
