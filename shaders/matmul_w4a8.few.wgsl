// matmul_w4a8 of few rows (shared/few.wgsl): k and groups are multiples of 32, or a group is the row. Any m and n.
#import few
#import pack

struct Params {
    m: u32, // rows of codes
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a weight scale; a multiple of 8, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    slice: u32, // of the formats `rows`, `half_tiles`, `groups` and `tile_..`: columns whose sums are `m` rows of out by themselves; k for all
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

const QUAD = 32u;
const SHIFT = 4u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

// Words of int8 codes, 16 times too large, of four rows of the weight: of codes 0..4 and 4..8 of each word.
struct Columns {
    low_x: vec4<u32>,
    high_x: vec4<u32>,
    low_y: vec4<u32>,
    high_y: vec4<u32>,
    low_z: vec4<u32>,
    high_z: vec4<u32>,
    low_w: vec4<u32>,
    high_w: vec4<u32>,
}

fn low(words: vec4<u32>) -> vec4<u32> {
    return vec4(low4_times_16(words.x), low4_times_16(words.y), low4_times_16(words.z), low4_times_16(words.w));
}

fn high(words: vec4<u32>) -> vec4<u32> {
    return vec4(high4_times_16(words.x), high4_times_16(words.y), high4_times_16(words.z), high4_times_16(words.w));
}

fn columns_of(q: Quads) -> Columns {
    let x = vec4(q.a.x, q.b.x, q.c.x, q.d.x);
    let y = vec4(q.a.y, q.b.y, q.c.y, q.d.y);
    let z = vec4(q.a.z, q.b.z, q.c.z, q.d.z);
    let w = vec4(q.a.w, q.b.w, q.c.w, q.d.w);
    return Columns(low(x), high(x), low(y), high(y), low(z), high(z), low(w), high(w));
}

fn add_quad(sums: Sums, rows: vec4<u32>, at: u32, w: Columns) -> Sums {
    let p = fetch_codes(rows, 2u * at);
    let q = fetch_codes(rows, 2u * at + 1u);
    var s = multiply_add(sums, vec4(p.a.x, p.b.x, p.c.x, p.d.x), w.low_x);
    s = multiply_add(s, vec4(p.a.y, p.b.y, p.c.y, p.d.y), w.high_x);
    s = multiply_add(s, vec4(p.a.z, p.b.z, p.c.z, p.d.z), w.low_y);
    s = multiply_add(s, vec4(p.a.w, p.b.w, p.c.w, p.d.w), w.high_y);
    s = multiply_add(s, vec4(q.a.x, q.b.x, q.c.x, q.d.x), w.low_z);
    s = multiply_add(s, vec4(q.a.y, q.b.y, q.c.y, q.d.y), w.high_z);
    s = multiply_add(s, vec4(q.a.z, q.b.z, q.c.z, q.d.z), w.low_w);
    return multiply_add(s, vec4(q.a.w, q.b.w, q.c.w, q.d.w), w.high_w);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    product(workgroup, grid, place);
}
