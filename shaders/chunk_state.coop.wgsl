// chunk_state.wgsl on cooperative matrices, for heads and states of whole 16 elements; each number as two f16
// (shared/first_bits.wgsl). One workgroup: 64 rows (p of heads of one group, one behind the other) by 128 n, 32 by 32 a
// subgroup, 16 tokens at a time, which are loaded while those before are multiplied. A head's weights are scaled by a power of
// two before, and its sums back: a small dt would be lost to f16. Workgroup memory is below 24 KiB, so that two workgroups share a core
// (docs/performance.md).
#import first_bits
#import index
#import token_tiles
#import warps

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 256u;
const ROWS = 16u; // quads of a tile's rows
const QUADS = 32u; // of its n
const STEP = 16u; // tokens of a tile
const BLOCKS = 4u; // of 16 rows, each of one head
const PITCH_X = 34u; // vec4s from a token to the next in workgroup memory: 16 and 16, padded against bank conflicts
const PITCH_B = 66u; // likewise
const PITCH_SUMS = 5u;
const LOW_X = 16u; // where what is left of a token's numbers begins
const LOW_B = 32u;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> states: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f16>, STEP * PITCH_X>; // [token, row]
var<workgroup> tile_b: array<vec4<f16>, STEP * PITCH_B>; // [token, n]
var<workgroup> sums: array<vec4<f32>, 128u * PITCH_SUMS>; // a matrix of each subgroup
var<workgroup> exponents: array<u32, BLOCKS>; // of the largest dt of each block's head

// What a thread loads of a step: a quad of rows, and of n of two tokens.
struct Batch {
    x: vec4<f32>,
    decay: f32, // the token's sum of dt A
    dt: f32,
    b0: vec4<f32>,
    b1: vec4<f32>,
}

struct Sums {
    c00: Sum,
    c01: Sum,
    c10: Sum,
    c11: Sum,
}

// Exponent of the largest dt of a head's tokens from l0 up to `end`, for all threads of a subgroup.
fn exponent_of(l0: u32, end: u32, place: Place) -> u32 {
    var top = 0.0;
    for (var l = l0 + lane_of(place); l < end; l += 32u) {
        top = max(top, dt[l]);
    }
    return clamp(bitcast<u32>(warp_max(top, place)) >> 23u, 1u, 253u);
}

// Of 16 tokens from `token` on; beyond the last, the last again. `base`: the head's dt.
fn fetch(thread: u32, token: u32, last: u32, x_at: u32, b_at: u32, base: u32) -> Batch {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(token + thread / QUADS + vec2(0u, 8u), vec2(last)) * stride;
    let l = min(token + thread / ROWS, last);
    return Batch(xbc[l * stride + x_at], da_cumsum[base + l], dt[base + l], xbc[at.x + b_at], xbc[at.y + b_at]);
}

fn put_x(at: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_x[at] = vec4<f16>(near);
    tile_x[LOW_X + at] = vec4<f16>(x - near);
}

fn put_b(at: u32, b: vec4<f32>) {
    let near = first_bits(b);
    tile_b[at] = vec4<f16>(near);
    tile_b[LOW_B + at] = vec4<f16>(b - near);
}

fn stage(thread: u32, decay_last: f32, scale: f32, batch: Batch) {
    let at = thread / QUADS * PITCH_B + thread % QUADS;
    put_x(thread / ROWS * PITCH_X + thread % ROWS, batch.x * (exp(decay_last - batch.decay) * (batch.dt * scale)));
    put_b(at, batch.b0);
    put_b(at + 8u * PITCH_B, batch.b1);
}

fn add(near: Left, low: Left, b: Right, b_low: Right, c: Sum) -> Sum {
    return multiply_add(near, b, multiply_add(low, b, multiply_add(near, b_low, c)));
}

// A step's products.
fn add_step(x: u32, b: u32, c: ptr<function, Sums>) {
    let near0 = left(x);
    let low0 = left(LOW_X + x);
    let near1 = left(x + 4u);
    let low1 = left(LOW_X + x + 4u);
    let b0 = right(b);
    let rest0 = right(LOW_B + b);
    (*c).c00 = add(near0, low0, b0, rest0, (*c).c00);
    (*c).c10 = add(near1, low1, b0, rest0, (*c).c10);
    let b1 = right(b + 4u);
    let rest1 = right(LOW_B + b + 4u);
    (*c).c01 = add(near0, low0, b1, rest1, (*c).c01);
    (*c).c11 = add(near1, low1, b1, rest1, (*c).c11);
}

// Stores sixteen rows of sixteen of each subgroup, by way of workgroup memory: whole vec4s.
fn store(place: Place, c: Sum, row: u32, column: u32, within: bool) {
    let n_end = params.state / 4u;
    let region = warp_of(place) * 16u * PITCH_SUMS;
    put_matrix(c, region, PITCH_SUMS);
    workgroupBarrier();
    let near = region + lane_of(place) / 4u * PITCH_SUMS + lane_of(place) % 4u;
    let quad = column + lane_of(place) % 4u;
    let at = (row + lane_of(place) / 4u) * n_end + quad;
    if within && quad < n_end {
        states[at] = sums[near];
        states[at + 8u * n_end] = sums[near + 8u * PITCH_SUMS];
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let thread = place.thread;
    let n_end = params.state / 4u;
    let head_quads = params.head_dim / 4u;
    let rows_end = params.heads / params.groups * params.head_dim / 4u; // quads of a group's rows
    let n_tiles = (n_end + QUADS - 1u) / QUADS;
    let row_tiles = (rows_end + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let n0 = item % n_tiles * QUADS;
    item /= n_tiles;
    let row0 = item % row_tiles * ROWS;
    item /= row_tiles;
    let group = item % params.groups;
    let chunk = item / params.groups;
    let first = chunk * params.chunk;
    if first >= params.tokens {
        return;
    }
    let end = min(first + params.chunk, params.tokens);
    let last = end - 1u;
    // Rows and columns beyond the end are the last again; what they give is not stored.
    let x_at = group * rows_end + min(row0 + thread % ROWS, rows_end - 1u);
    let b_at = (params.heads * params.head_dim + group * params.state) / 4u + min(n0 + thread % QUADS, n_end - 1u);
    let base = x_at / head_quads * params.tokens;
    let decay_last = da_cumsum[base + last];
    var batch = fetch(thread, first, last, x_at, b_at, base);
    let warp = warp_of(place);
    let block_base = (group * rows_end + min(row0 + 4u * (warp % BLOCKS), rows_end - 1u)) / head_quads * params.tokens;
    let exponent = exponent_of(block_base + first, block_base + end, place);
    if lane_of(place) == 0u && warp < BLOCKS {
        exponents[warp] = exponent;
    }
    workgroupBarrier();
    let scale = bitcast<f32>((254u - exponents[thread % ROWS / 4u]) << 23u); // 1 to 2 for the largest
    var c = Sums();
    let x = warp / 4u * 8u;
    let b = warp % 4u * 8u;
    for (var l = first; l < end; l += STEP) {
        let within = select(0.0, scale, l + thread / ROWS < end);
        stage(thread, decay_last, within, batch);
        batch = fetch(thread, l + STEP, last, x_at, b_at, base);
        workgroupBarrier();
        add_step(x, b, &c);
        workgroupBarrier();
    }
    let row = row0 + x;
    let at = chunk * params.heads * params.head_dim + 4u * (group * rows_end + row);
    let unscale0 = bitcast<f32>(exponents[2u * (warp / 4u)] << 23u);
    store(place, times(c.c00, unscale0), at, n0 + b, row < rows_end);
    store(place, times(c.c01, unscale0), at, n0 + b + 4u, row < rows_end);
    let unscale1 = bitcast<f32>(exponents[2u * (warp / 4u) + 1u] << 23u);
    store(place, times(c.c10, unscale1), at + 16u, n0 + b, row + 4u < rows_end);
    store(place, times(c.c11, unscale1), at + 16u, n0 + b + 4u, row + 4u < rows_end);
}
