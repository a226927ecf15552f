// chunk_products.wgsl on cooperative matrices, each number as two f16 (shared/first_bits.wgsl). One workgroup: 64 tokens l by 64
// tokens s of one group, 16 l a subgroup, 32 elements of the state at a time.
#import coop_held
#import coop_split
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
const QUADS = 8u; // of a step
const PITCH_X = 10u; // vec4s from a token to the next in workgroup memory, padded against bank conflicts
const PITCH_W = 10u;
const SUM_PITCH = 4u; // of sums
const LOW = 640u; // SIDE * PITCH_X: where what is left of the numbers begins

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read_write> products: array<vec4<u32>>; // [tokens, groups * chunk], a chunk in whole vec4s
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f16>, 2u * LOW>; // C
var<workgroup> tile_w: array<vec4<f16>, 2u * LOW>; // B
var<workgroup> sums: array<vec4<f32>, 256>; // a matrix of each subgroup

// Four quads of a step: of every sixteenth token from `token` on; beyond the last the last again.
fn rows4(token: u32, last: u32, column: u32) -> mat4x4<f32> {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(token + vec4(0u, 16u, 32u, 48u), vec4(last)) * stride + column;
    return mat4x4(
        bitcast<vec4<f32>>(xbc[at.x]),
        bitcast<vec4<f32>>(xbc[at.y]),
        bitcast<vec4<f32>>(xbc[at.z]),
        bitcast<vec4<f32>>(xbc[at.w]),
    );
}

fn put_w(at: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_w[at] = vec4<f16>(near);
    tile_w[LOW + at] = vec4<f16>(x - near);
}

fn stage(thread: u32, c: mat4x4<f32>, b: mat4x4<f32>) {
    let at = thread / QUADS * PITCH_X + thread % QUADS;
    put_x(at, c[0]);
    put_x(at + 16u * PITCH_X, c[1]);
    put_x(at + 32u * PITCH_X, c[2]);
    put_x(at + 48u * PITCH_X, c[3]);
    put_w(at, b[0]);
    put_w(at + 16u * PITCH_W, b[1]);
    put_w(at + 32u * PITCH_W, b[2]);
    put_w(at + 48u * PITCH_W, b[3]);
}

// Tokens s 16 part.. of the tile's 64, eight for each l a thread.
fn store(thread: u32, part: u32, row0: u32, last: u32, group: u32, first: u32, key0: u32) {
    let quads = (params.chunk + 3u) / 4u;
    let s = key0 + 16u * part + thread % 4u * 4u; // four threads a row
    let quad = (s - first) / 4u;
    for (var i = 0u; i < 2u; i++) {
        let l = row0 + thread / 4u + 32u * i;
        if l <= last && quad < quads {
            let before = vec4(s, s + 1u, s + 2u, s + 3u) <= vec4(l);
            let product = select(vec4(0.0), sums[thread + WG * i], before);
            products[(l * params.groups + group) * quads + quad] = bitcast<vec4<u32>>(product);
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
    let n_end = params.state / 4u;
    let b_at = params.heads * params.head_dim / 4u + group * n_end;
    let c_at = b_at + params.groups * n_end;
    let warp = warp_of(place);
    let a = warp * 16u * PITCH_X;
    let region = warp * 64u;
    var c0 = Sum();
    var c1 = Sum();
    var c2 = Sum();
    var c3 = Sum();
    // Tiles of later tokens alone are zero.
    for (var n = 0u; n < select(0u, n_end, key_tile <= row_tile); n += QUADS) {
        let quad = n + thread % QUADS;
        let within = select(0.0, 1.0, quad < n_end);
        let column = min(quad, n_end - 1u);
        let c = rows4(row0 + thread / QUADS, last, c_at + column);
        let b = rows4(key0 + thread / QUADS, last, b_at + column);
        workgroupBarrier(); // the last step's may still be read
        stage(thread, c * within, b);
        workgroupBarrier();
        let near0 = left(a);
        let low0 = left(LOW + a);
        c0 = add(near0, low0, 0u, c0);
        c1 = add(near0, low0, 16u * PITCH_W, c1);
        c2 = add(near0, low0, 32u * PITCH_W, c2);
        c3 = add(near0, low0, 48u * PITCH_W, c3);
        let near1 = left(a + 4u);
        let low1 = left(LOW + a + 4u);
        c0 = add(near1, low1, 4u, c0);
        c1 = add(near1, low1, 16u * PITCH_W + 4u, c1);
        c2 = add(near1, low1, 32u * PITCH_W + 4u, c2);
        c3 = add(near1, low1, 48u * PITCH_W + 4u, c3);
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
