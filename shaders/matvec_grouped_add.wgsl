// A product of few tokens in groups of 32 columns (shared/grouped_rows.wgsl) added to the residual stream, and codes of that times the
// next norm's weight, but for the norm's factor (shared/group_codes.wgsl).
#import grouped_outputs
#import index

struct Params {
    tokens: u32, // at most 8
    n: u32, // rows of weight; a multiple of 32
    k: u32, // columns of weight
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    norm_group: u32, // columns of a norm of a token; 0: it has none
    eps: f32,
}

#ifdef warps
#ifdef int4_several
const SLICES = 2u; // what a thousand threads would have of several tokens does not fit into registers
#else
const SLICES = 4u;
#endif
#else
const SLICES = 1u; // 256 threads, as any adapter has
#endif
const STEPS = 1u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [tokens, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [2, tokens * k / 32] scales, sums of squares
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4 or int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read> norm: array<vec4<f32>>; // [n] of the next norm
@group(0) @binding(5) var<storage, read_write> stream: array<vec4<f32>>; // [tokens, n]
@group(0) @binding(6) var<storage, read_write> out_codes: array<u32>; // [tokens, n] int8
@group(0) @binding(7) var<storage, read_write> out_scales: array<f32>; // [2, tokens * n / 32] scales, sums of squares
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
    let quad = first / 4u + quad_of(place);
    let at = token_of(place) * (params.n / 4u) + quad;
    var before = vec4<f32>();
    var factor = vec4<f32>();
    if has_outputs(place) { // asked for before the product, which takes long
        before = stream[at];
        factor = norm[quad];
    }
    let sum = before + gathered(first, place);
    if has_outputs(place) {
        stream[at] = sum;
    }
    put_outputs(first, sum * factor, dot(sum, sum), place);
}
