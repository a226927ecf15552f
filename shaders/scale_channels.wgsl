// out = x * scale, one scale a column (SmoothQuant's division of activations, arXiv:2211.10438).
// One thread an element.
#import index

struct Params {
    rows: u32,
    cols: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read> scale: array<f32>; // [cols]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i < params.rows * params.cols {
        out[i] = x[i] * scale[i % params.cols];
    }
}
