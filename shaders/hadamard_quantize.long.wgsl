// hadamard_quantize.wgsl by subgroups of 32 threads (shared/warps.wgsl), for rows of up to six spans in runs of up to 256 columns. A
// subgroup has up to three runs of 256, in registers: a thread two quads of each, 32 apart. So bits 0, 1 and 7 of an element's
// number are a thread's own and 2 to 6 its subgroup's: no transform goes through workgroup memory.
#import butterflies
#import index
#import int8_codes
#import quad_words
#import top
#import warps

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to six spans
    log_run: u32, // a run is at most a span
    unit: f32, // scale of the transform
}

const WG = 1024u;

@group(0) @binding(0) var<storage, read> x: array<Words>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> largests: array<f32, 32>; // of each subgroup

fn row_quads() -> u32 {
    return params.cols / 4u;
}

// Beyond the row's end its last quad.
fn input(row: u32, quad: u32) -> vec4<f32> {
    return quad_of(x[row * row_quads() + min(quad, row_quads() - 1u)]);
}

// Zeros where all of a run is beyond the row's end.
fn inputs(row: u32, quad: u32) -> mat2x4<f32> {
    if quad / 64u * 64u >= row_quads() {
        return mat2x4<f32>();
    }
    return mat2x4(input(row, quad), input(row, quad + 32u));
}

// The level of butterflies between threads `by` apart.
fn crossed2(m: mat2x4<f32>, by: u32, place: Place) -> mat2x4<f32> {
    let sign = select(1.0, -1.0, (lane_of(place) & by) != 0u);
    return mat2x4(across(m[0], by, place), across(m[1], by, place)) + m * sign;
}

// A run of 256 columns, or the shorter ones in it.
fn transformed(run: mat2x4<f32>, place: Place) -> mat2x4<f32> {
    var m = run;
    m = mat2x4(pairs(m[0]), pairs(m[1]));
    if params.log_run > 1u {
        m = mat2x4(halves(m[0]), halves(m[1]));
    }
    if params.log_run > 7u {
        m = mat2x4(m[0] + m[1], m[0] - m[1]);
    }
    for (var level = 2u; level < min(params.log_run, 7u); level++) {
        m = crossed2(m, 1u << (level - 2u), place);
    }
    return m * params.unit;
}

// Largest magnitude of the quads that are in the row.
fn tops(m: mat2x4<f32>, quad: u32) -> f32 {
    return max(select(0.0, top(m[0]), quad < row_quads()), select(0.0, top(m[1]), quad + 32u < row_quads()));
}

fn put(row: u32, quad: u32, v: vec4<f32>, inverse: f32) {
    if quad < row_quads() {
        codes[row * row_quads() + quad] = codes_of(v, inverse);
    }
}

fn put2(row: u32, quad: u32, m: mat2x4<f32>, inverse: f32) {
    put(row, quad, m[0], inverse);
    put(row, quad + 32u, m[1], inverse);
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
    let at = 64u * warp_of(place) + lane_of(place);
    var a = inputs(row, at); // all loads before what waits for the first
    var b = inputs(row, at + 2048u);
    var c = inputs(row, at + 4096u);
    a = transformed(a, place);
    b = transformed(b, place);
    c = transformed(c, place);
    let own = max(max(tops(a, at), tops(b, at + 2048u)), tops(c, at + 4096u));
    largests[warp_of(place)] = warp_max(own, place);
    workgroupBarrier();
    let largest = warp_max(largests[lane_of(place)], place);
    let inverse = inverse_of(largest);
    put2(row, at, a, inverse);
    put2(row, at + 2048u, b, inverse);
    put2(row, at + 4096u, c, inverse);
    if place.thread == 0u {
        scales[row] = scale_of(largest);
    }
}
