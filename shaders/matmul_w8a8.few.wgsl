// matmul_w8a8 of few rows (shared/few.wgsl): k and groups are multiples of 16, or a group is the row. Any m and n.
#import few

struct Params {
    m: u32, // rows of codes
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a weight scale; a multiple of 4, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    slice: u32, // of the formats `rows`, `groups` and `tile_..`: columns whose sums are `m` rows of out by themselves; k for all
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

const QUAD = 16u;
const SHIFT = 0u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

alias Columns = Quads;

fn columns_of(q: Quads) -> Columns {
    return q;
}

fn add_quad(sums: Sums, rows: vec4<u32>, at: u32, w: Columns) -> Sums {
    let p = fetch_codes(rows, at);
    var s = multiply_add(sums, vec4(p.a.x, p.b.x, p.c.x, p.d.x), vec4(w.a.x, w.b.x, w.c.x, w.d.x));
    s = multiply_add(s, vec4(p.a.y, p.b.y, p.c.y, p.d.y), vec4(w.a.y, w.b.y, w.c.y, w.d.y));
    s = multiply_add(s, vec4(p.a.z, p.b.z, p.c.z, p.d.z), vec4(w.a.z, w.b.z, w.c.z, w.d.z));
    return multiply_add(s, vec4(p.a.w, p.b.w, p.c.w, p.d.w), vec4(w.a.w, w.b.w, w.c.w, w.d.w));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    product(workgroup, grid, place);
}
