// Adds up what slices of a product's columns gave (split-K; shared/slices.wgsl), then the product's epilogue. One thread four outputs.
#import epilogue4
#import index

struct Params {
    m: u32, // rows of out
    n: u32, // columns; a multiple of 4
    slices: u32,
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n; a multiple of 4, like the next
    out_first: u32, // the first of them
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> sums: array<vec4<f32>>; // [slices, m, n]
@group(0) @binding(1) var<storage, read_write> out: array<vec4<f32>>; // [m, out_stride]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let quads = params.n / 4u;
    if i >= params.m * quads {
        return;
    }
    var total = sums[i];
    for (var s = 1u; s < params.slices; s++) {
        total += sums[s * params.m * quads + i];
    }
    let at = quad_at(i / quads, i % quads * 4u);
    store_onto(at, total, addend(at));
}
