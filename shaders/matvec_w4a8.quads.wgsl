// matvec_w4a8 by 16-byte loads (shared/quads4.wgsl): k and groups are multiples of 32, or a group is the row. Any n.
#import dot
#import pack
#import quads4

struct Params {
    n: u32, // rows of weight
    k: u32, // columns of weight
    group: u32, // columns a weight scale; a multiple of 8, or k
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

const QUAD = 32u;
const SHIFT = 4u;

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [1, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [1, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4
@group(0) @binding(3) var<storage, read> weight_scales: array<f32>; // [n, groups]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(5) var<uniform> params: Params;

struct Token {
    first: vec4<u32>,
    second: vec4<u32>,
}

fn fetch_token(at: u32) -> Token {
    return Token(codes[2u * at], codes[2u * at + 1u]);
}

// 16 times the products of the 8 codes of a word.
fn dot_word(low: u32, high: u32, word: u32) -> i32 {
    return dot_codes(low, low4_times_16(word)) + dot_codes(high, high4_times_16(word));
}

fn dot_quad(x: Token, w: vec4<u32>) -> i32 {
    let first = dot_word(x.first.x, x.first.y, w.x) + dot_word(x.first.z, x.first.w, w.y);
    return first + dot_word(x.second.x, x.second.y, w.z) + dot_word(x.second.z, x.second.w, w.w);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    product(workgroup, grid, place);
}
