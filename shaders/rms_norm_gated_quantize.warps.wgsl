// rms_norm_gated_quantize.wgsl, where norms are over whole 128 columns, up to 1536, and there are 8 of them at most: a subgroup of 32 threads
// takes one, of which a thread holds each 32nd quad. So nobody waits for others but for the largest value of a row.
#import butterflies
#import float
#import four
#import int8_codes
#import index
#import warps

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

// 12 quads of a thread, four a column: of its norm's columns the quads lane + 32 i.
struct Values {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
}

// Where a thread's quads are: the first in a row, and how many there are.
struct Spot {
    quad: u32,
    count: u32,
}

// Of quads from the thread's `i`th on; beyond its last the last again.
fn spots(spot: Spot, i: u32) -> vec4<u32> {
    return spot.quad + 32u * min(i + vec4(0u, 1u, 2u, 3u), vec4(spot.count - 1u));
}

// 1 for quads that are there, else 0.
fn there(spot: Spot, i: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), i + vec4(0u, 1u, 2u, 3u) < vec4(spot.count));
}

fn values(row: u32, at: vec4<u32>) -> mat4x4<f32> {
    let i = row * (params.cols / 4u) + at;
    return mat4x4(four(y[i.x]), four(y[i.y]), four(y[i.z]), four(y[i.w]));
}

fn gates(row: u32, at: vec4<u32>) -> mat4x4<f32> {
    let i = (row * params.gate_stride + params.gate_offset) / 4u + at;
    return mat4x4(gate[i.x], gate[i.y], gate[i.z], gate[i.w]);
}

fn weights(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn times(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

fn silu4(z: vec4<f32>) -> vec4<f32> {
    return vec4(silu(z.x), silu(z.y), silu(z.z), silu(z.w));
}

fn gated(v: mat4x4<f32>, z: mat4x4<f32>) -> mat4x4<f32> {
    return times(v, mat4x4(silu4(z[0]), silu4(z[1]), silu4(z[2]), silu4(z[3])));
}

fn squares(m: mat4x4<f32>, is_there: vec4<f32>) -> f32 {
    return dot(is_there, vec4(dot(m[0], m[0]), dot(m[1], m[1]), dot(m[2], m[2]), dot(m[3], m[3])));
}

fn top(v: vec4<f32>) -> f32 {
    let pair = max(abs(v.xy), abs(v.zw));
    return max(pair.x, pair.y);
}

// Largest magnitude of each quad, 0 of those that are not there.
fn tops(m: mat4x4<f32>, is_there: vec4<f32>) -> vec4<f32> {
    return is_there * vec4(top(m[0]), top(m[1]), top(m[2]), top(m[3]));
}

// Columns are 128 elements apart.
fn transformed(m: mat4x4<f32>, place: Place) -> mat4x4<f32> {
    var v = butterflies(m, vec4(0u, 1u, 7u, 8u), params.log_run);
    for (var level = 2u; level < min(params.log_run, 7u); level++) {
        v = crossed(v, 1u << (level - 2u), place);
    }
    return v * params.unit;
}

// Largest of each thread and those that share its scale, 2^k threads, for each of its quads.
fn shared_tops(own: vec4<f32>, place: Place) -> vec4<f32> {
    var most = own;
    for (var by = 1u; by < params.group / 4u; by *= 2u) {
        most = max(most, across(most, by, place));
    }
    return most;
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
    let largest = shared_tops(tops(m, is_there), place);
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
    let warp = warp_of(place);
    let mine = warp * params.norm_group < params.cols;
    // A subgroup without a norm takes the first one's, and keeps it to itself.
    let spot = Spot(select(0u, warp * params.norm_group / 4u, mine) + lane_of(place), params.norm_group / 128u);
    let a = spots(spot, 0u);
    let b = spots(spot, 4u);
    let c = spots(spot, 8u);
    let two = params.norm_group > 512u;
    let three = params.norm_group > 1024u;
    var v = Values(values(row, a), mat4x4<f32>(), mat4x4<f32>());
    var z = Values(gates(row, a), mat4x4<f32>(), mat4x4<f32>());
    var w = Values(weights(a), mat4x4<f32>(), mat4x4<f32>());
    if two {
        v.b = values(row, b);
        z.b = gates(row, b);
        w.b = weights(b);
    }
    if three {
        v.c = values(row, c);
        z.c = gates(row, c);
        w.c = weights(c);
    }
    v = Values(gated(v.a, z.a), gated(v.b, z.b), gated(v.c, z.c));
    let sum = squares(v.a, there(spot, 0u)) + squares(v.b, there(spot, 4u)) + squares(v.c, there(spot, 8u));
    let scale = inverseSqrt(warp_sum(sum, place) / f32(params.norm_group) + params.eps);
    v.a = transformed(times(v.a * scale, w.a), place);
    if two {
        v.b = transformed(times(v.b * scale, w.b), place);
    }
    if three {
        v.c = transformed(times(v.c * scale, w.c), place);
    }
    if params.log_run == 10u {
        v = Values(v.a + v.b, v.a - v.b, v.c);
    }
    let count = select(0u, spot.count, mine);
    let own = Spot(spot.quad, count);
    if params.group < params.cols {
        store_groups(row, own, 0u, v.a, there(own, 0u), place);
        store_groups(row, own, 4u, v.b, there(own, 4u), place);
        store_groups(row, own, 8u, v.c, there(own, 8u), place);
        return;
    }
    let most = max(max(tops(v.a, there(own, 0u)), tops(v.b, there(own, 4u))), tops(v.c, there(own, 8u)));
    largests[warp] = warp_max(max(max(most.x, most.y), max(most.z, most.w)), place);
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
