// out = relu(x)^2, the MLP's activation (Primer, arXiv:2109.08668). One thread an element.
#import index

struct Params {
    count: u32, // elements
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i < params.count {
        let v = x[i];
        out[i] = select(v * v, 0.0, v < 0.0);
    }
}
