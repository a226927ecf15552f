// products[l, g, s] = C[l]·B[s] of group g for the tokens s <= l of l's chunk, counted from its first; 0 for later ones (Dao &
// Gu 2024, arXiv:2405.21060, section 6). All heads of a group share them.
// Of f16 tensors f16, a 64th of each.
// One workgroup: 64 tokens l by 64 tokens s of one group. A thread: l 4i..4i+4 and 32 further, s likewise.
#import index
#import scan_values

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4
    chunk: u32,
}

const WG = 64u;
const SIDE = 64u; // of a tile, in tokens
const HALF = 32u;

@group(0) @binding(0) var<storage, read> xbc: array<Four>; // [tokens, heads * head_dim + 2 * groups * state] f32 or f16
@group(0) @binding(1) var<storage, read_write> products: array<Four>; // [tokens, groups * chunk] likewise, a chunk in whole 16 bytes; of f16 a 64th
@group(0) @binding(2) var<uniform> params: Params;

fn put(l: u32, last: u32, group: u32, first: u32, s: u32, values: vec4<f32>) {
    let quads = product_quads();
    let quad = (s - first) / 4u;
    if l <= last && quad < quads {
        let before = vec4(s, s + 1u, s + 2u, s + 3u) <= vec4(l);
        let product = select(vec4(0.0), values / PART, before);
        products[(l * params.groups + group) * quads + quad] = four_of(product);
    }
}

fn store(l: u32, last: u32, group: u32, first: u32, s: u32, sums: mat4x4<f32>) {
    put(l, last, group, first, s, sums[0]);
    put(l + 1u, last, group, first, s, sums[1]);
    put(l + 2u, last, group, first, s, sums[2]);
    put(l + 3u, last, group, first, s, sums[3]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.chunk + SIDE - 1u) / SIDE;
    var item = linear_workgroup(workgroup, grid);
    let key_tile = item % tiles;
    item /= tiles;
    let row_tile = item % tiles;
    item /= tiles;
    let group = item % params.groups;
    let first = item / params.groups * params.chunk;
    let row0 = first + row_tile * SIDE;
    let end = min(first + params.chunk, params.tokens);
    if row0 >= end {
        return;
    }
    let last = end - 1u;
    let l = row0 + thread / 8u * 4u;
    let s = first + key_tile * SIDE + thread % 8u * 4u;
    let n_end = params.state / 4u;
    let b_at = params.heads * params.head_dim / 4u + group * n_end;
    let c_at = b_at + params.groups * n_end;
    var sum_aa = mat4x4<f32>(); // for the two halves of l and of s: columns are l, rows are s
    var sum_ab = mat4x4<f32>();
    var sum_ba = mat4x4<f32>();
    var sum_bb = mat4x4<f32>();
    // Tiles of later tokens alone are zero.
    for (var n = 0u; n < select(0u, n_end, key_tile <= row_tile); n++) {
        let ca = rows4(l, last, c_at + n);
        let cb = rows4(l + HALF, last, c_at + n);
        let ba = transpose(rows4(s, last, b_at + n));
        let bb = transpose(rows4(s + HALF, last, b_at + n));
        sum_aa += ba * ca;
        sum_ab += bb * ca;
        sum_ba += ba * cb;
        sum_bb += bb * cb;
    }
    store(l, last, group, first, s, sum_aa);
    store(l, last, group, first, s + HALF, sum_ab);
    store(l + HALF, last, group, first, s, sum_ba);
    store(l + HALF, last, group, first, s + HALF, sum_bb);
}
