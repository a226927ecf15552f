// A row in registers. A span is 4096 elements, of which thread t of 256 holds four quads (vec4s): 1024 span + t + 256 j
// is column j of a mat4x4. So a thread's loads are all under way before it waits for the first; a loop waits in each
// step. The importing shader has `const WG = 256u`, `params.cols`, a multiple of 4, and the binding `codes`.
#import int8_codes
#import top

const SPAN = 4096u;

fn row_quads() -> u32 {
    return params.cols / 4u;
}

fn spots(span: u32, thread: u32) -> vec4<u32> {
    return 1024u * span + thread + vec4(0u, 256u, 512u, 768u);
}

// Within the row, to read from: beyond its end the last quad again, which what follows must leave out.
fn clamped(spots: vec4<u32>) -> vec4<u32> {
    return min(spots, vec4(row_quads() - 1u));
}

fn within(spots: vec4<u32>) -> vec4<bool> {
    return spots < vec4(row_quads());
}

// Sum of squares of each quad, 0 beyond the row.
fn squares(m: mat4x4<f32>, spots: vec4<u32>) -> vec4<f32> {
    let sums = vec4(dot(m[0], m[0]), dot(m[1], m[1]), dot(m[2], m[2]), dot(m[3], m[3]));
    return select(vec4(0.0), sums, within(spots));
}

// Largest magnitude of each quad, 0 beyond the row.
fn tops(m: mat4x4<f32>, spots: vec4<u32>) -> vec4<f32> {
    return select(vec4(0.0), vec4(top(m[0]), top(m[1]), top(m[2]), top(m[3])), within(spots));
}

fn times(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

// Each quad times its own number.
fn times_each(a: mat4x4<f32>, b: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(a[0] * b.x, a[1] * b.y, a[2] * b.z, a[3] * b.w);
}

fn put_codes(row: u32, spots: vec4<u32>, m: mat4x4<f32>, inverse: vec4<f32>) {
    let at = row * row_quads() + spots;
    let is_there = within(spots);
    if is_there.x {
        codes[at.x] = codes_of(m[0], inverse.x);
    }
    if is_there.y {
        codes[at.y] = codes_of(m[1], inverse.y);
    }
    if is_there.z {
        codes[at.z] = codes_of(m[2], inverse.z);
    }
    if is_there.w {
        codes[at.w] = codes_of(m[3], inverse.w);
    }
}
