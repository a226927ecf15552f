// Rows cursor.. of each sequence's caches = its rows of k and v; rows that do not fit are dropped. One thread an element.
// Formats: `f32` here; `half` (f16) in kv_append.half.wgsl, `int8` and `int4` in kv_append.int.wgsl.
#import index

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

const WG = 256u;

@group(0) @binding(0) var<storage, read> k: array<f32>; // [sequences * tokens, k_stride]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [sequences * tokens, v_stride]
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> k_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(4) var<storage, read_write> v_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let width = params.kv_heads * params.head_dim;
    let sequence = i / (params.tokens * width);
    if sequence >= params.sequences {
        return;
    }
    let before = cursor[sequence];
    let free = params.max - min(before, params.max);
    if i % (params.tokens * width) < min(params.tokens, free) * width {
        let at = (sequence * params.max + before) * width + i % (params.tokens * width);
        let token = i / width;
        k_cache[at] = bitcast<u32>(k[params.k_offset + token * params.k_stride + i % width]);
        v_cache[at] = bitcast<u32>(v[params.v_offset + token * params.v_stride + i % width]);
    }
}
