// out = weight · x with f32 sums, then the epilogue: matmul_f32 for one row of x. Weights are stored as f32, f16 or
// bf16 (the format word). A workgroup makes 4 outputs; a thread takes every WG-th word of their rows. Any n, k.
#import rows4

struct Params {
    n: u32, // rows of weight
    k: u32, // columns of weight
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

const WG = 32u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [1, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k], rows start at words
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(3) var<uniform> params: Params;

fn weight_words(row: u32, words: u32, at: u32) -> vec4<u32> {
    let i = rows4(row) * words + at;
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// The products of one word of each row.
fn products(word: u32, w: vec4<u32>) -> vec4<f32> {
#ifdef w_f32
    return bitcast<vec4<f32>>(w) * x[word];
#else
    let k = 2u * word;
    let first = x[k];
    let second = select(x[min(k + 1u, params.k - 1u)], 0.0, k + 1u >= params.k);
#ifdef w_f16
    let a = unpack2x16float(w.x);
    let b = unpack2x16float(w.y);
    let c = unpack2x16float(w.z);
    let d = unpack2x16float(w.w);
    return vec4(a.x, b.x, c.x, d.x) * first + vec4(a.y, b.y, c.y, d.y) * second;
#else
    return bitcast<vec4<f32>>(w << vec4(16u)) * first + bitcast<vec4<f32>>(w & vec4(0xffff0000u)) * second;
#endif
#endif
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
#ifdef w_f32
    let words = params.k;
#else
    let words = (params.k + 1u) / 2u;
#endif
    var sums = vec4<f32>();
    for (var word = thread; word < words; word += WG) {
        sums += products(word, weight_words(row, words, word));
    }
    store4(row, thread, workgroup_sum4(sums, place));
}
