// out = x, sixteen bytes a thread: nothing but memory, to measure what the adapter can move.
#import index

struct Params {
    count: u32, // vectors of four words
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>; // [4 count]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<u32>>; // [4 count]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i < params.count {
        out[i] = x[i];
    }
}
