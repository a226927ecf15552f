// rms_norm_gated_quantize.wgsl of few norms of whole 128 columns (shared/gated_norm.wgsl): threads wait for each other but for the largest
// value of a row.
#import gated_norm
#import int8_codes
#import index

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to two spans; in the long formats three
    norm_group: u32, // columns of a norm; a multiple of 4
    group: u32, // columns a scale; a multiple of 4, or cols
    gate_stride: u32, // elements from a row of the gate's tensor to the next; a multiple of 4
    gate_offset: u32, // its first column; a multiple of 4
    eps: f32,
    log_run: u32, // a run is 2^log_run columns, at most a span; 0: no transform
    unit: f32, // scale of the transform
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> y: array<Four>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>; // [rows, gate_stride]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // [cols]
@group(0) @binding(3) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> largests: array<f32, 8>; // of each subgroup

fn norm_weight(at: u32) -> vec4<f32> {
    return weight[at];
}

fn inverses(largest: vec4<f32>) -> vec4<f32> {
    let low = vec2(group_inverse_of(largest.x), group_inverse_of(largest.y));
    return vec4(low, group_inverse_of(largest.z), group_inverse_of(largest.w));
}

fn store(row: u32, spot: Spot, i: u32, m: mat4x4<f32>, inverse: vec4<f32>) {
    let at = row * (params.cols / 4u) + spot.quad + 32u * i;
    if i < spot.count {
        codes[at] = codes_of(m[0], inverse.x);
    }
    if i + 1u < spot.count {
        codes[at + 32u] = codes_of(m[1], inverse.y);
    }
    if i + 2u < spot.count {
        codes[at + 64u] = codes_of(m[2], inverse.z);
    }
    if i + 3u < spot.count {
        codes[at + 96u] = codes_of(m[3], inverse.w);
    }
}

// Scales of quads from the thread's `i`th on: the first of those that share one stores it.
fn store_scales(row: u32, spot: Spot, i: u32, largest: vec4<f32>) {
    let quads = params.group / 4u;
    for (var j = 0u; j < 4u; j++) {
        let quad = spot.quad + 32u * (i + j);
        if i + j < spot.count && quad % quads == 0u {
            scales[(row * params.cols / 4u + quad) / quads] = group_scale_of(largest[j]);
        }
    }
}

fn store_groups(row: u32, spot: Spot, i: u32, m: mat4x4<f32>, is_there: vec4<f32>, place: Place) {
    let largest = run_max(tops(m, is_there), params.group / 4u, place);
    store(row, spot, i, m, inverses(largest));
    store_scales(row, spot, i, largest);
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
    let normed = gated_norm(row * params.cols / 4u, (row * params.gate_stride + params.gate_offset) / 4u, place);
    let v = normed.v;
    let own = normed.own;
    if params.group < params.cols {
        store_groups(row, own, 0u, v.a, there(own, 0u), place);
        store_groups(row, own, 4u, v.b, there(own, 4u), place);
        store_groups(row, own, 8u, v.c, there(own, 8u), place);
        return;
    }
    largests[warp_of(place)] = warp_max(most(normed), place);
    workgroupBarrier();
    let low = max(max(largests[0], largests[1]), max(largests[2], largests[3]));
    let largest = max(low, max(max(largests[4], largests[5]), max(largests[6], largests[7])));
    let inverse = vec4(inverse_of(largest));
    store(row, own, 0u, v.a, inverse);
    store(row, own, 4u, v.b, inverse);
    store(row, own, 8u, v.c, inverse);
    if place.thread == 0u {
        scales[row] = scale_of(largest);
    }
}
