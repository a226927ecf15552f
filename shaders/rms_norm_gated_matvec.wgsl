// The end of a Mamba-2 mixer for one token: gate, norm, transform and codes (as rms_norm_gated_quantize;
// shared/gated_norm.wgsl), and their product with a weight (shared/made_token.wgsl), in one launch.
#import gated_norm
#import index
#import made_token

struct Params {
    n: u32, // rows of weight
    cols: u32, // at most MOST
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of the token
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    norm_group: u32, // columns of a norm
    gate_offset: u32, // first column of the gate in its tensor; a multiple of 4
    eps: f32,
    log_run: u32, // a run of the transform is 2^log_run columns; 0: no transform
    unit: f32, // scale of the transform
}

const MOST = 10240u;

@group(0) @binding(0) var<storage, read> y: array<Four>; // [1, cols] f32
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>; // [1, gate_offset + cols or more]
@group(0) @binding(2) var<storage, read> norm: array<vec4<f32>>; // [cols]
@group(0) @binding(3) var<storage, read> weight: array<vec4<u32>>; // [n, cols] int4 or int8
@group(0) @binding(4) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> largests: array<f32, TEAMS>; // of each team

fn norm_weight(at: u32) -> vec4<f32> {
    return norm[at];
}

// Quads i.. of the thread, by the token's scale, or with groups by their own.
fn put_four(own: Spot, i: u32, m: mat4x4<f32>, inverse: f32, place: Place) {
    let j = i + vec4(0u, 1u, 2u, 3u);
    let is_there = j < vec4(own.count);
    if params.x_group < params.cols {
        put_groups(own.quad + 32u * j, m, is_there, tops(m, there(own, i)), place);
    } else {
        put_whole(own.quad + 32u * j, m, is_there, inverse);
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
    let normed = gated_norm(0u, params.gate_offset / 4u, place);
    largests[warp_of(place)] = warp_max(most(normed), place);
    workgroupBarrier();
    var largest = 0.0;
    for (var i = 0u; i < TEAMS; i++) {
        largest = max(largest, largests[i]);
    }
    let inverse = inverse_of(largest);
    put_four(normed.own, 0u, normed.v.a, inverse, place);
    put_four(normed.own, 4u, normed.v.b, inverse, place);
    put_four(normed.own, 8u, normed.v.c, inverse, place);
    if place.thread == 0u && params.x_group == params.cols {
        token_scales[0] = scale_of(largest);
    }
    make_outputs(first, place);
}
