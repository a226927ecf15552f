// Sums of outer products by way of workgroup memory: 64 x 64 outputs a workgroup of 128 threads, 16 terms a step. Half of the
// threads stage the left factor, half the right one, four terms of four outputs each; a thread has 4 x 8 outputs.

const WG = 128u;
const QUADS = 16u; // fours of outputs along either side
const STEP = 16u; // terms
const PITCH = 66u; // vec4s from four terms to the next: 64, padded against bank conflicts
const RIGHT = STEP / 4u * PITCH; // where the right factor begins

var<workgroup> factors: array<vec4<f32>, 2u * RIGHT>; // [term, quad] of the left factor, then of the right one

// What a thread stages.
struct Staged {
    left: bool, // or the right factor
    part: u32, // four terms
    quad: u32, // of four outputs
}

struct Sums {
    near: mat4x4<f32>, // an output of the left factor a column
    far: mat4x4<f32>, // outputs of the right factor 32 further
}

fn staged_by(thread: u32) -> Staged {
    return Staged(thread < WG / 2u, thread % 4u, thread / 4u % QUADS);
}

// A term a column.
fn stage(thread: u32, terms: mat4x4<f32>) {
    let spot = staged_by(thread);
    let at = select(RIGHT, 0u, spot.left) + spot.part * PITCH + spot.quad;
    factors[at] = terms[0];
    factors[at + QUADS] = terms[1];
    factors[at + 2u * QUADS] = terms[2];
    factors[at + 3u * QUADS] = terms[3];
}

// Of eight threads next to each other two share what they read of the left factor, and two of the right one: then NVIDIA's cores read for sixteen at
// once.
fn left_quad(thread: u32) -> u32 {
    return thread / 2u % 2u + thread / 16u * 2u;
}

fn right_quad(thread: u32) -> u32 {
    return thread % 2u + thread / 4u % 4u * 2u;
}

fn add_outer(sum: mat4x4<f32>, left: vec4<f32>, right: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] + left.x * right, sum[1] + left.y * right, sum[2] + left.z * right, sum[3] + left.w * right);
}

// With the terms of a step.
fn add_step(before: Sums, thread: u32) -> Sums {
    var sums = before;
    for (var k = 0u; k < STEP; k++) {
        let at = k / 4u * PITCH + k % 4u * QUADS;
        let left = factors[at + left_quad(thread)];
        let right = RIGHT + at + right_quad(thread);
        sums.near = add_outer(sums.near, left, factors[right]);
        sums.far = add_outer(sums.far, left, factors[right + QUADS / 2u]);
    }
    return sums;
}
