// matmul_w8a8 on cooperative matrices (shared/coop_product.wgsl), for shapes in blocks: k a multiple of 16, and spans of
// the scales of whole 32 columns up to 1024, of whole 1024, or of the whole row. Any m and n.
#import coop_product
#import stage_weight8

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

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

fn fetch_weight(row: u32, col: u32) -> vec4<u32> {
    let words = weight[min(row, params.n - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
    return select(vec4(0u), words, col < params.k);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
