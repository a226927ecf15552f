// Rows cursor.. of each sequence's caches = its rows of k and v; rows that do not fit are dropped. One thread an element.
// Formats: `f32` here; `int8` and `int4` in kv_append.int.wgsl.
#import index

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> k: array<f32>; // [sequences * tokens, kv_heads * head_dim]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [sequences * tokens, kv_heads * head_dim]
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
        k_cache[at] = bitcast<u32>(k[i]);
        v_cache[at] = bitcast<u32>(v[i]);
    }
}
