// hadamard_runs.wgsl for up to 96 runs of 256 columns, by subgroups of 32 threads: all loads of a thread are under way at once, and after
// one wait for the others' sums a subgroup has the whole run, two quads a thread.
#import index
#import top
#import warps

struct Params {
    rows: u32,
    cols: u32, // a multiple of order * run
    order: u32,
    log_run: u32, // a run is 2^log_run columns, 4 to 1024
    unit: f32, // scale of the transform
}

const WG = 256u;
const QUADS = 64u; // of a run, 2^log_run / 4
const TEAMS = WG / QUADS; // each adds up its share of the runs

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> maxima: array<f32>; // [rows, cols / run]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> held: array<vec4<f32>, WG>;

// Of runs first, first + TEAMS, .. a quad each; of the last run beyond.
fn fetch(start: u32, first: u32, quad: u32) -> mat4x4<f32> {
    let at = start + min(first + TEAMS * vec4(0u, 1u, 2u, 3u), vec4(params.order - 1u)) * QUADS + quad;
    return mat4x4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

// 1 or -1 by bits 0, TEAMS, .. of what is left of a row's signs; 0 beyond the order.
fn signs_of(bits: u32, first: u32) -> vec4<f32> {
    let negative = (vec4(bits) & vec4(1u, 1u << TEAMS, 1u << (2u * TEAMS), 1u << (3u * TEAMS))) != vec4(0u);
    let there = first + TEAMS * vec4(0u, 1u, 2u, 3u) < vec4(params.order);
    return select(vec4(0.0), select(vec4(1.0), vec4(-1.0), negative), there);
}

// The quads of a run's half, of all teams.
fn sum_of(quad: u32) -> vec4<f32> {
    return (held[quad] + held[QUADS + quad]) + (held[2u * QUADS + quad] + held[3u * QUADS + quad]);
}

// Levels within a quad.
fn near(v: vec4<f32>) -> vec4<f32> {
    let pairs = vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    return vec4(pairs.xy + pairs.zw, pairs.xy - pairs.zw);
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
    let quad = place.thread % QUADS;
    let team = place.thread / QUADS;
    let row = item % params.order;
    let start = (item - row) * QUADS;
    let words = (params.order + 31u) / 32u;
    let at = row * words + min(vec3(0u, 1u, 2u), vec3(words - 1u));
    let bits = vec3(signs[at.x], signs[at.y], signs[at.z]) >> vec3(team);
    let a = fetch(start, team, quad);
    let b = fetch(start, team + 16u, quad);
    let c = fetch(start, team + 32u, quad);
    let d = fetch(start, team + 48u, quad);
    let e = fetch(start, team + 64u, quad);
    let f = fetch(start, team + 80u, quad);
    held[place.thread] = (a * signs_of(bits.x, team) + b * signs_of(bits.x >> 16u, team + 16u))
        + (c * signs_of(bits.y, team + 32u) + d * signs_of(bits.y >> 16u, team + 48u))
        + (e * signs_of(bits.z, team + 64u) + f * signs_of(bits.z >> 16u, team + 80u));
    workgroupBarrier();
    // Every subgroup does the same from here on, but only the first from the run's own place.
    let mine = select(0u, lane_of(place), warp_of(place) == 0u);
    let low = near(sum_of(mine));
    let high = near(sum_of(mine + 32u));
    var v = low + high;
    var w = low - high;
    for (var by = 1u; by < 32u; by *= 2u) {
        let sign = select(1.0, -1.0, (lane_of(place) & by) != 0u);
        v = across(v, by, place) + sign * v;
        w = across(w, by, place) + sign * w;
    }
    v *= params.unit;
    w *= params.unit;
    let largest = warp_max(max(top(v), top(w)), place);
    if place.thread < 32u {
        out[item * QUADS + place.thread] = v;
        out[item * QUADS + 32u + place.thread] = w;
    }
    if place.thread == 0u {
        maxima[item] = largest;
    }
}
