// hadamard_quantize.wgsl for rows of 4096 f16 that are one run, by two subgroups of 32 threads a row, 64 elements a thread. Of an element's
// number bits 0 to 2 and 9 to 11 are a thread's own as it is loaded; then threads change places with bits 3 to 8, through workgroup memory a
// quarter of a row at a time, so that all levels are between a thread's own elements. Codes are eight elements apart then: four threads
// put those of a word together.
#import butterflies
#import index
#import int8_codes
#import top
#import warps

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to six spans
    log_run: u32, // a run is at most a span
    unit: f32, // scale of the transform
}

const WG = 64u;
const PITCH = 65u; // 64 elements, padded against bank conflicts

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> swapped: array<f32, 16u * PITCH>; // [element % 8 of two 512s, element / 8 % 64]
var<workgroup> largests: array<f32, 2>; // of each subgroup

struct Elements {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
    d: mat4x4<f32>,
}

// Elements 8 i and 8 (i + 64) on of the span.
fn loaded(first: vec4<u32>, second: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(
        vec4(unpack2x16float(first.x), unpack2x16float(first.y)),
        vec4(unpack2x16float(first.z), unpack2x16float(first.w)),
        vec4(unpack2x16float(second.x), unpack2x16float(second.y)),
        vec4(unpack2x16float(second.z), unpack2x16float(second.w)),
    );
}

// Levels within vec4s, between columns, and between matrices.
fn levels(v: Elements) -> Elements {
    let all = vec4(0u, 1u, 2u, 3u);
    let a = butterflies(v.a, all, 4u);
    let b = butterflies(v.b, all, 4u);
    let c = butterflies(v.c, all, 4u);
    let d = butterflies(v.d, all, 4u);
    return Elements((a + b) + (c + d), (a - b) + (c - d), (a + b) - (c + d), (a - b) - (c - d));
}

// A column of a matrix: four elements of one 512.
fn put_column(row: u32, thread: u32, v: vec4<f32>) {
    let at = row * PITCH + thread;
    swapped[at] = v.x;
    swapped[at + PITCH] = v.y;
    swapped[at + 2u * PITCH] = v.z;
    swapped[at + 3u * PITCH] = v.w;
}

fn put_matrix(thread: u32, m: mat4x4<f32>) {
    put_column(0u, thread, m[0]);
    put_column(4u, thread, m[1]);
    put_column(8u, thread, m[2]);
    put_column(12u, thread, m[3]);
}

fn got_quad(at: u32) -> vec4<f32> {
    return vec4(swapped[at], swapped[at + 1u], swapped[at + 2u], swapped[at + 3u]);
}

fn got4(at: u32) -> mat4x4<f32> {
    return mat4x4(got_quad(at), got_quad(at + 4u), got_quad(at + 8u), got_quad(at + 12u));
}

// Every eighth element of a 512.
fn got(row: u32) -> Elements {
    let at = row * PITCH;
    return Elements(got4(at), got4(at + 16u), got4(at + 32u), got4(at + 48u));
}

// Four words of a thread's codes, a byte of four numbers each, as four words of four threads' codes of one number.
fn together(words: vec4<u32>, place: Place) -> vec4<u32> {
    let lane = lane_of(place);
    let far = across_words(words, 2u, place);
    let low = (words & vec4(0xffffu)) | (far << vec4(16u));
    let high = (far >> vec4(16u)) | (words & vec4(0xffff0000u));
    let half = select(low, high, (lane & 2u) != 0u);
    let near = across_words(half, 1u, place);
    let even = (half & vec4(0x00ff00ffu)) | ((near & vec4(0x00ff00ffu)) << vec4(8u));
    let odd = ((near >> vec4(8u)) & vec4(0x00ff00ffu)) | (half & vec4(0xff00ff00u));
    return select(even, odd, (lane & 1u) != 0u);
}

fn store(at: u32, m: mat4x4<f32>, inverse: f32, place: Place) {
    let own = vec4(codes_of(m[0], inverse), codes_of(m[1], inverse), codes_of(m[2], inverse), codes_of(m[3], inverse));
    let words = together(own, place);
    codes[at] = words.x;
    codes[at + 8u] = words.y;
    codes[at + 16u] = words.z;
    codes[at + 24u] = words.w;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let thread = 32u * warp_of(place) + lane_of(place);
    let at = (row << (params.log_run - 3u)) + thread; // a row is one run
    let x0 = x[at];
    let x1 = x[at + 64u];
    let x2 = x[at + 128u];
    let x3 = x[at + 192u];
    let x4 = x[at + 256u];
    let x5 = x[at + 320u];
    let x6 = x[at + 384u];
    let x7 = x[at + 448u];
    let near = levels(Elements(loaded(x0, x1), loaded(x2, x3), loaded(x4, x5), loaded(x6, x7)));
    let quarter = thread / 16u;
    put_matrix(thread, near.a);
    workgroupBarrier();
    var v = got(thread % 16u);
    workgroupBarrier(); // before the next quarter comes
    put_matrix(thread, near.b);
    workgroupBarrier();
    if quarter == 1u {
        v = got(thread % 16u);
    }
    workgroupBarrier();
    put_matrix(thread, near.c);
    workgroupBarrier();
    if quarter == 2u {
        v = got(thread % 16u);
    }
    workgroupBarrier();
    put_matrix(thread, near.d);
    workgroupBarrier();
    if quarter == 3u {
        v = got(thread % 16u);
    }
    v = levels(v);
    let low = max(top16_of_numbers(v.a), top16_of_numbers(v.b));
    let high = max(top16_of_numbers(v.c), top16_of_numbers(v.d));
    // What is not finite has reached all elements, so one tells.
    largests[warp_of(place)] = warp_max(max(max(low, high), magnitude(v.a[0].x)), place);
    workgroupBarrier();
    let largest = max(largests[0], largests[1]) * params.unit;
    let inverse = inverse_of(largest) * params.unit;
    // A thread has element thread % 8 of every eight of the 512 number thread / 8.
    let word = row * (params.cols / 4u) + thread / 8u * 128u + thread % 4u * 2u + thread / 4u % 2u;
    store(word, v.a, inverse, place);
    store(word + 32u, v.b, inverse, place);
    store(word + 64u, v.c, inverse, place);
    store(word + 96u, v.d, inverse, place);
    if place.thread == 0u {
        scales[row] = scale_of(largest);
    }
}
