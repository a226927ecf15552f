// Reading a row of the state by `const LANES` threads: four 16-byte loads on the way before the first is used. The
// importing shader has `params.state` and the binding `ssm_state`.

// Vec4s n, n + LANES, n + 2 LANES and n + 3 LANES of a row; the last one for those beyond the end.
fn fetch_state(row: u32, n: u32) -> mat4x4<f32> {
    let width = params.state / 4u;
    let at = row * width + min(vec4(n, n + LANES, n + 2u * LANES, n + 3u * LANES), vec4(width - 1u));
    return mat4x4(ssm_state[at.x], ssm_state[at.y], ssm_state[at.z], ssm_state[at.w]);
}

// What the importing shader's `advance` does with each of them; the sum of what it gives.
fn advance_state(row: u32, n: u32, before: mat4x4<f32>, decay: f32, x: f32) -> f32 {
    let first = advance(row, n, before[0], decay, x) + advance(row, n + LANES, before[1], decay, x);
    return first + advance(row, n + 2u * LANES, before[2], decay, x) + advance(row, n + 3u * LANES, before[3], decay, x);
}
