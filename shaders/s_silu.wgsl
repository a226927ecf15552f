// out = x * sigmoid(scale * x), one scale a column: SiLU of a gate whose channels were divided by `scale`
// (MambaQuant's S-SiLU, arXiv:2501.13484). One thread an element.
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
        let v = x[i];
        // exp overflows above 88: the sigmoid is 0 there to f32 precision.
        out[i] = v / (1.0 + exp(min(-scale[i % params.cols] * v, 80.0)));
    }
}
