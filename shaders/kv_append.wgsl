// Rows cursor.. of the caches = rows of k and v; rows that do not fit are dropped. One thread an element.
#import index

struct Params {
    tokens: u32,
    width: u32,
    max: u32, // rows of a cache
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> k: array<f32>; // [tokens, width]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [tokens, width]
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [1]
@group(0) @binding(3) var<storage, read_write> k_cache: array<f32>; // [max, width]
@group(0) @binding(4) var<storage, read_write> v_cache: array<f32>; // [max, width]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let free = params.max - min(cursor[0], params.max);
    if i < min(params.tokens, free) * params.width {
        let at = cursor[0] * params.width + i;
        k_cache[at] = k[i];
        v_cache[at] = v[i];
    }
}
