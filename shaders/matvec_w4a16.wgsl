// matmul_w4a16 for one row of x: out = (weight * weight_scales) · x, then the epilogue. A workgroup makes 4 outputs; a
// thread takes every WG-th word, 8 codes, of their rows and scales each word's sum. Any n, k.
#import rows4
#import pack
#import weight_scales

struct Params {
    n: u32, // rows of weight
    k: u32, // columns of weight
    group: u32, // columns a scale; a multiple of 8, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

const WG = 32u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [1, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k] int4
@group(0) @binding(2) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(4) var<uniform> params: Params;

fn x4(k: u32) -> vec4<f32> {
    // Beyond the end the weight codes are zero; any x serves.
    let i = min(vec4(k, k + 1u, k + 2u, k + 3u), vec4(params.k - 1u));
    return vec4(x[i.x], x[i.y], x[i.z], x[i.w]);
}

fn product(low: vec4<f32>, high: vec4<f32>, word: u32) -> f32 {
    return dot(low, vec4<f32>(codes4_low(word))) + dot(high, vec4<f32>(codes4_high(word)));
}

// The products of one word of each row.
fn products(row: u32, words: u32, at: u32) -> vec4<f32> {
    let low = x4(8u * at);
    let high = x4(8u * at + 4u);
    let i = rows4(row) * words + at;
    return vec4(
        product(low, high, weight[i.x]),
        product(low, high, weight[i.y]),
        product(low, high, weight[i.z]),
        product(low, high, weight[i.w]),
    );
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let row = 4u * linear_workgroup(workgroup, grid);
    if row >= params.n {
        return;
    }
    let words = (params.k + 7u) / 8u;
    let groups = (params.k + params.group - 1u) / params.group;
    var sums = vec4<f32>();
    for (var word = thread; word < words; word += WG) {
        sums += products(row, words, word) * four_scales(first_scales(row, groups) + 8u * word / params.group);
    }
    store4(row, thread, workgroup_sum4(sums, place));
}
