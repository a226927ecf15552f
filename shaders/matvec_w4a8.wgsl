// matmul_w4a8 for one token: out = sum over spans s of scales[s] * weight_scales[j, s] * (int32 sum over span s), then the
// epilogue. A workgroup makes 4 outputs; a thread takes every WG-th word, 8 codes, of their rows. Where each row has
// one group that is one int32 sum, as in matmul_w4a8; else a thread scales each word's sum and the rest is f32. Any n, k.
#import rows4
#import dot
#import pack
#import weight_scales

struct Params {
    n: u32, // rows of weight
    k: u32, // columns of weight
    group: u32, // columns a weight scale; a multiple of 8, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

const WG = 32u;

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [1, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [1, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<u32>; // [n, k] int4
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(5) var<uniform> params: Params;

// 16 times the products of 8 codes.
fn products(first: u32, second: u32, word: u32) -> i32 {
    return dot_codes(first, low4_times_16(word)) + dot_codes(second, high4_times_16(word));
}

// 16 times the products of one word of each row.
fn dots(row: u32, at: u32) -> vec4<i32> {
    let i = rows4(row) * ((params.k + 7u) / 8u) + at;
    let first = codes[2u * at];
    // There may be no second word; the weights there are zero.
    let second = codes[min(2u * at + 1u, (params.k + 3u) / 4u - 1u)];
    return vec4(
        products(first, second, weight[i.x]),
        products(first, second, weight[i.y]),
        products(first, second, weight[i.z]),
        products(first, second, weight[i.w]),
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
    var y = 0.0;
    if min(params.group, params.x_group) == params.k {
        var sums = vec4<i32>();
        for (var word = thread; word < words; word += WG) {
            sums += dots(row, word);
        }
        let factor = four_scales(first_scales(row, 1u))[thread % 4u] * scales[0];
        y = f32(workgroup_sum4i(sums, place) >> 4u) * factor;
    } else {
        var sums = vec4<f32>();
        for (var word = thread; word < words; word += WG) {
            let first = 8u * word;
            let factor = scales[first / params.x_group] * four_scales(first_scales(row, groups) + first / params.group);
            sums += vec4<f32>(dots(row, word) >> vec4(4u)) * factor;
        }
        y = workgroup_sum4(sums, place);
    }
    store4(row, thread, y);
}
