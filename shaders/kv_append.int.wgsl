// Rows cursor.. of each sequence's caches = codes of its rows of k and v; rows that do not fit are dropped. A scale is of
// one token and head (`int8`), or of 32 elements of it (`int4`): scale = max|x| / top, code = round(x / scale), ties to even, within +-top,
// top = 127 or 7; so a row depends on its own token only. Where the largest value is below 1e-35, scale 1 and codes 0.
// One workgroup: one head of one token of k or of v; a thread makes a word.
#import index
#import kv_codes
#import pack
#import top

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
    k_offset: u32, // first column of k
    k_stride: u32, // columns of the tensor k is in
    v_offset: u32, // likewise
    v_stride: u32,
}

const WG = 64u;
const SMALLEST = 1e-35; // below, scale or its inverse would leave the range of normal floats
#ifdef int8
const TOP = 127.0;
#else
const TOP = 7.0;
#endif

@group(0) @binding(0) var<storage, read> k: array<f32>; // [sequences * tokens, k_stride]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [sequences * tokens, v_stride]
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> k_cache: array<u32>; // codes and scales: shared/kv_codes.wgsl
@group(0) @binding(4) var<storage, read_write> v_cache: array<u32>; // codes and scales
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> largest: array<f32, WG>; // of each word

// Element c of a row of k or v; zero beyond its end.
fn element(of_v: bool, row: u32, c: u32) -> f32 {
    if c >= params.head_dim {
        return 0.0;
    }
    let token = row / params.kv_heads;
    let at = row % params.kv_heads * params.head_dim + c;
    if of_v {
        return v[params.v_offset + token * params.v_stride + at];
    }
    return k[params.k_offset + token * params.k_stride + at];
}

fn quad(of_v: bool, row: u32, c: u32) -> vec4<f32> {
    let low = vec2(element(of_v, row, c), element(of_v, row, c + 1u));
    return vec4(low, element(of_v, row, c + 2u), element(of_v, row, c + 3u));
}

fn put(of_v: bool, at: u32, word: u32) {
    if of_v {
        v_cache[at] = word;
    } else {
        k_cache[at] = word;
    }
}

fn rounded(x: vec4<f32>, inverse: f32) -> u32 {
    return pack4xI8(vec4<i32>(clamp(round(x * inverse), vec4(-TOP), vec4(TOP))));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    let of_v = item % 2u == 1u;
    let row = item / 2u;
    let rows = params.tokens * params.kv_heads;
    let sequence = row / rows;
    if sequence >= params.sequences {
        return;
    }
    let before = cursor[sequence];
    let free = params.max - min(before, params.max);
    if row % rows >= min(params.tokens, free) * params.kv_heads {
        return;
    }
    let low = quad(of_v, row, CODES * thread);
    largest[thread] = top(low);
#ifdef int4
    let high = quad(of_v, row, CODES * thread + 4u);
    largest[thread] = max(largest[thread], top(high));
#endif
    workgroupBarrier();
    if thread >= row_words() {
        return;
    }
    let first = thread / SPAN * SPAN;
    var most = 0.0;
    for (var i = first; i < min(first + SPAN, row_words()); i++) {
        most = max(most, largest[i]);
    }
    let inverse = select(TOP / most, 0.0, most < SMALLEST);
    var word = rounded(low, inverse);
#ifdef int4
    word = pack_nibbles(word, rounded(high, inverse));
#endif
    let to = (sequence * params.max + before) * params.kv_heads + row % rows;
    put(of_v, code_at(to, thread), word);
    if thread == first {
        // A multiplication, as in quantize_tokens.
        put(of_v, scale_at(to, thread), bitcast<u32>(select(most * (1.0 / TOP), 1.0, most < SMALLEST)));
    }
}
