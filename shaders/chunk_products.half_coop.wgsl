// chunk_products.wgsl for f16 tensors on cooperative matrices. One workgroup: 64 tokens l by 64 tokens s of one group, 16 l a
// subgroup, 64 elements of the state at a time; states in whole 16 bytes.
#import coop_held
#import half_words
#import index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4
    chunk: u32,
}

const WG = 128u;
const SIDE = 64u; // of a tile, in tokens
const UNITS = 8u; // of a step; a unit is 16 bytes, eight numbers
const PITCH_X = 18u; // vec4s from a token to the next in workgroup memory, padded against bank conflicts
const PITCH_W = 18u;
const SUM_PITCH = 4u; // of sums
const PART = 64.0; // products are stored as a 64th

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read_write> products: array<vec2<u32>>; // [tokens, groups * chunk] f16, a chunk in whole units
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f16>, SIDE * PITCH_X>; // C
var<workgroup> tile_w: array<vec4<f16>, SIDE * PITCH_W>; // B
var<workgroup> sums: array<vec4<f32>, 256>; // a matrix of each subgroup

struct Units {
    u0: vec4<u32>,
    u1: vec4<u32>,
    u2: vec4<u32>,
    u3: vec4<u32>,
}

// A unit of every sixteenth token from `token` on; beyond the last the last again.
fn fetch(token: u32, last: u32, column: u32) -> Units {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 8u;
    let at = min(token + vec4(0u, 16u, 32u, 48u), vec4(last)) * stride + column;
    return Units(xbc[at.x], xbc[at.y], xbc[at.z], xbc[at.w]);
}

fn put_c(at: u32, unit: vec4<u32>, within: f32) {
    tile_x[at] = vec4<f16>(halves4(unit.xy) * within);
    tile_x[at + 1u] = vec4<f16>(halves4(unit.zw) * within);
}

fn put_b(at: u32, unit: vec4<u32>) {
    tile_w[at] = vec4<f16>(halves4(unit.xy));
    tile_w[at + 1u] = vec4<f16>(halves4(unit.zw));
}

fn stage(thread: u32, c: Units, b: Units, within: f32) {
    let at = thread / UNITS * PITCH_X + 2u * (thread % UNITS);
    put_c(at, c.u0, within);
    put_c(at + 16u * PITCH_X, c.u1, within);
    put_c(at + 32u * PITCH_X, c.u2, within);
    put_c(at + 48u * PITCH_X, c.u3, within);
    put_b(at, b.u0);
    put_b(at + 16u * PITCH_W, b.u1);
    put_b(at + 32u * PITCH_W, b.u2);
    put_b(at + 48u * PITCH_W, b.u3);
}

// Tokens s 16 part.. of the tile's 64, eight for each l a thread.
fn store(thread: u32, part: u32, row0: u32, last: u32, group: u32, first: u32, key0: u32) {
    let quads = (params.chunk + 7u) / 8u * 2u;
    let s = key0 + 16u * part + thread % 4u * 4u; // four threads a row
    let quad = (s - first) / 4u;
    for (var i = 0u; i < 2u; i++) {
        let l = row0 + thread / 4u + 32u * i;
        if l <= last && quad < quads {
            let before = vec4(s, s + 1u, s + 2u, s + 3u) <= vec4(l);
            let product = select(vec4(0.0), sums[thread + WG * i] / PART, before);
            products[(l * params.groups + group) * quads + quad] = words_of(product);
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let thread = place.thread;
    let tiles = (params.chunk + SIDE - 1u) / SIDE;
    var item = linear_workgroup(workgroup, grid);
    let key_tile = item % tiles;
    item /= tiles;
    let row_tile = item % tiles;
    item /= tiles;
    let group = item % params.groups;
    let first = item / params.groups * params.chunk;
    let row0 = first + row_tile * SIDE;
    let key0 = first + key_tile * SIDE;
    let end = min(first + params.chunk, params.tokens);
    if row0 >= end {
        return;
    }
    let last = end - 1u;
    let n_end = params.state / 8u;
    let b_at = params.heads * params.head_dim / 8u + group * n_end;
    let c_at = b_at + params.groups * n_end;
    let warp = warp_of(place);
    let a = warp * 16u * PITCH_X;
    let region = warp * 64u;
    var c0 = Sum();
    var c1 = Sum();
    var c2 = Sum();
    var c3 = Sum();
    // Tiles of later tokens alone are zero.
    for (var n = 0u; n < select(0u, n_end, key_tile <= row_tile); n += UNITS) {
        let unit = n + thread % UNITS;
        let column = min(unit, n_end - 1u);
        let c = fetch(row0 + thread / UNITS, last, c_at + column);
        let b = fetch(key0 + thread / UNITS, last, b_at + column);
        workgroupBarrier(); // the last step's may still be read
        stage(thread, c, b, select(0.0, 1.0, unit < n_end));
        workgroupBarrier();
        for (var quad = 0u; quad < 16u; quad += 4u) {
            let x = left(a + quad);
            c0 = multiply_add(x, right(quad), c0);
            c1 = multiply_add(x, right(16u * PITCH_W + quad), c1);
            c2 = multiply_add(x, right(32u * PITCH_W + quad), c2);
            c3 = multiply_add(x, right(48u * PITCH_W + quad), c3);
        }
    }
    put_sum(c0, region);
    workgroupBarrier();
    store(thread, 0u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(c1, region);
    workgroupBarrier();
    store(thread, 1u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(c2, region);
    workgroupBarrier();
    store(thread, 2u, row0, last, group, first, key0);
    workgroupBarrier();
    put_sum(c3, region);
    workgroupBarrier();
    store(thread, 3u, row0, last, group, first, key0);
}
