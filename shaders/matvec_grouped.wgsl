// A product of few tokens in groups of 32 columns (shared/grouped_rows.wgsl).
#import grouped_rows
#import index

struct Params {
    tokens: u32, // at most 8
    n: u32, // rows of weight
    k: u32, // columns of weight
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    norm_group: u32, // columns of a norm of a token; 0: it has none
    eps: f32,
}

const SLICES = 1u;
const STEPS = QUAD / 16u; // of an int8 weight one is faster

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [tokens, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [2, tokens * k / 32] scales, sums of squares
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4 or int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [tokens, n]
@group(0) @binding(5) var<uniform> params: Params;

var<private> first_row: u32; // of the workgroup

fn take(token: u32, own: f32, place: Place) {
    let row = first_row + 4u * warp_of(place) + lane_of(place) / 8u;
    if lane_of(place) % 8u == 0u && row < params.n {
        out[token * params.n + row] = own;
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let first = ROWS * linear_workgroup(workgroup, grid);
    if first >= params.n {
        return;
    }
    first_row = first;
    multiply(first, place);
}
