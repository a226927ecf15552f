// A Hadamard transform of few rows in one dispatch, both of its factors: v = unit * (H_order (x) H_run) x over blocks of
// order * run columns (hadamard_mix.wgsl, then hadamard.wgsl), and the largest magnitude of each run of v. A workgroup
// makes one run. It reads its whole block, so order times as much is read as by two passes, but by many workgroups: a
// token's row is in the cache, and what counts is that nobody waits long.
#import index
#import reduce
#import top

struct Params {
    rows: u32,
    cols: u32, // a multiple of order * run
    order: u32,
    log_run: u32, // a run is 2^log_run columns, 4 to 1024
    unit: f32, // scale of the transform
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> maxima: array<f32>; // [rows, cols / run]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> held: array<vec4<f32>, WG>;

// 1 or -1: element `column` of row `row` of H_order; 0 beyond its end.
fn sign(row: u32, column: u32) -> f32 {
    let at = row * ((params.order + 31u) / 32u) + min(column, params.order - 1u) / 32u;
    let negative = (signs[at] >> (column % 32u)) & 1u;
    return select(1.0 - 2.0 * f32(negative), 0.0, column >= params.order);
}

// Quad `lane` of run `column` of the block that starts at quad `start`; of the last run beyond.
fn fetch(start: u32, column: u32, quads: u32, lane: u32) -> vec4<f32> {
    return x[start + min(column, params.order - 1u) * quads + lane];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let item = linear_workgroup(workgroup, grid);
    if item >= params.rows * (params.cols >> params.log_run) {
        return;
    }
    // A team of threads holds a run; each adds up its share of the runs.
    let quads = 1u << (params.log_run - 2u);
    let teams = WG / quads;
    let lane = place.thread % quads;
    let team = place.thread / quads;
    let row = item % params.order;
    let start = (item - row) * quads;
    var v = vec4<f32>();
    for (var column = team; column < params.order; column += 4u * teams) {
        let c = column + vec4(0u, teams, 2u * teams, 3u * teams);
        let a = fetch(start, c.x, quads, lane);
        let b = fetch(start, c.y, quads, lane);
        let d = fetch(start, c.z, quads, lane);
        let e = fetch(start, c.w, quads, lane);
        v += sign(row, c.x) * a + sign(row, c.y) * b + sign(row, c.z) * d + sign(row, c.w) * e;
    }
    held[place.thread] = v;
    for (var half = teams / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if team < half {
            held[place.thread] += held[place.thread + half * quads];
        }
    }
    workgroupBarrier();
    v = held[lane]; // from here on every team has the same
    v = vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    v = vec4(v.xy + v.zw, v.xy - v.zw);
    for (var stride = 1u; stride < quads; stride *= 2u) {
        workgroupBarrier(); // what the last level left may still be read
        held[place.thread] = v;
        workgroupBarrier();
        let other = held[place.thread ^ stride];
        v = select(v + other, other - v, (lane & stride) != 0u);
    }
    v *= params.unit;
    if team == 0u {
        out[item * quads + lane] = v;
    }
    let largest = workgroup_max(top(v), place);
    if place.thread == 0u {
        maxima[item] = largest;
    }
}
