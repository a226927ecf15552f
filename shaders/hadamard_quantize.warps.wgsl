// hadamard_quantize.wgsl by subgroups of 32 threads (shared/warp_span.wgsl), for rows of up to a span, of f32 or f16.
#import index
#import int8_codes
#import quad_words
#import top
#import warp_span

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to six spans
    log_run: u32, // a run is at most a span
    unit: f32, // scale of the transform
}

@group(0) @binding(0) var<storage, read> x: array<Words>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> largests: array<f32, 4>; // of each subgroup

// Beyond the row's end its last quad.
fn input(row: u32, quad: u32) -> vec4<f32> {
    let quads = params.cols / 4u;
    return quad_of(x[row * quads + min(quad, quads - 1u)]);
}

fn inputs(row: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4(input(row, quad), input(row, quad + 128u), input(row, quad + 256u), input(row, quad + 384u));
}

// Largest magnitude of the quads that are in the row.
fn tops(m: mat4x4<f32>, quad: u32) -> f32 {
    let inside = quad + vec4(0u, 32u, 64u, 96u) < vec4(params.cols / 4u);
    return top(select(vec4(0.0), vec4(top(m[0]), top(m[1]), top(m[2]), top(m[3])), inside));
}

fn put(row: u32, quad: u32, v: vec4<f32>, inverse: f32) {
    let quads = params.cols / 4u;
    if quad < quads {
        codes[row * quads + quad] = codes_of(v, inverse);
    }
}

fn put4(row: u32, quad: u32, m: mat4x4<f32>, inverse: f32) {
    put(row, quad, m[0], inverse);
    put(row, quad + 32u, m[1], inverse);
    put(row, quad + 64u, m[2], inverse);
    put(row, quad + 96u, m[3], inverse);
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
    let at = first_quad(place);
    let span = transform_span(Span(inputs(row, at), inputs(row, at + 512u)), params.log_run, place);
    let v = Span(span.a * params.unit, span.b * params.unit);
    let to = last_quad(place);
    largests[warp_of(place)] = warp_max(max(tops(v.a, to), tops(v.b, to + 512u)), place);
    workgroupBarrier();
    let largest = max(max(largests[0], largests[1]), max(largests[2], largests[3]));
    let inverse = inverse_of(largest);
    put4(row, to, v.a, inverse);
    put4(row, to + 512u, v.b, inverse);
    if place.thread == 0u {
        scales[row] = scale_of(largest);
    }
}
