// A product of one token in groups of 32 columns (shared/grouped_rows.wgsl) added to the residual stream, and codes of that times the
// next norm's weight, but for the norm's factor (shared/group_codes.wgsl).
#import grouped_outputs
#import index

struct Params {
    n: u32, // rows of weight; a multiple of 32
    k: u32, // columns of weight
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    norm_group: u32, // columns of a norm of the token; 0: it has none
    eps: f32,
}

#ifdef warps
const SLICES = 4u;
#else
const SLICES = 1u; // 256 threads, as any adapter has
#endif
const STEPS = 1u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [1, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [2, k / 32] scales, sums of squares
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4 or int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read> norm: array<vec4<f32>>; // [n] of the next norm
@group(0) @binding(5) var<storage, read_write> stream: array<vec4<f32>>; // [1, n]
@group(0) @binding(6) var<storage, read_write> out_codes: array<u32>; // [1, n] int8
@group(0) @binding(7) var<storage, read_write> out_scales: array<f32>; // [2, n / 32] scales, sums of squares
@group(0) @binding(8) var<uniform> params: Params;

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
    let quad = first / 4u + place.thread;
    var before = vec4<f32>();
    var factor = vec4<f32>();
    if place.thread < 8u { // asked for before the product, which takes long
        before = stream[quad];
        factor = norm[quad];
    }
    let y = gathered(outputs_of(first, place), place);
    let sum = before + y;
    if place.thread < 8u {
        stream[quad] = sum;
    }
    put_codes(first / ROWS, params.n / ROWS, sum * factor, dot(sum, sum), place);
}
