// matvec_w8a8 by 16-byte loads (shared/quads4.wgsl): k and groups are multiples of 16, or a group is the row. Any n.
#import quad_int8
#import quads4

struct Params {
    n: u32, // rows of weight
    k: u32, // columns of weight
    group: u32, // columns a weight scale; a multiple of 4, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [1, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [1, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    product(workgroup, grid, place);
}
