// A product of few tokens in groups of 32 columns (shared/grouped_rows.wgsl), squared ReLU, a transform of runs of up to 32 outputs, and
// codes of those for the next product (shared/group_codes.wgsl).
#import grouped_outputs
#import index
#import runs4

struct Params {
    tokens: u32, // at most 8
    n: u32, // rows of weight; a multiple of 32
    k: u32, // columns of weight
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    norm_group: u32, // columns of a norm of a token; 0: it has none
    eps: f32,
    log_run: u32, // a run of the transform is 2^log_run outputs, at most 32; 0: no transform
    unit: f32, // scale of the transform
}

const SLICES = 1u;
const STEPS = 1u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [tokens, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [2, tokens * k / 32] scales, sums of squares
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4 or int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out_codes: array<u32>; // [tokens, n] int8
@group(0) @binding(5) var<storage, read_write> out_scales: array<f32>; // [2, tokens * n / 32] scales, sums of squares
@group(0) @binding(6) var<uniform> params: Params;

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
    let y = gathered(first, place);
    let v = select(y * y, vec4(0.0), y < vec4(0.0));
    put_outputs(first, transformed(v, params.log_run, params.unit, place), dot(v, v), place);
}
