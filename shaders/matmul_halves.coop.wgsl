// matmul_halves.wgsl on cooperative matrices; `out`'s rows and its first column are of whole 16 bytes. Tiles of 128 x 128 below the
// diagonal stay as they are also where a workgroup's tile is higher.
#import coop_halves

struct Params {
    m: u32, // rows of x, a multiple of 8
    n: u32, // rows of the weight, likewise
    k: u32,
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
    upper: u32, // 1: outputs in tiles of 128 x 128 wholly below the diagonal stay as they are
}

const RELU_SQUARED = 1u;
const ADD = 2u;

@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>; // [2, k, m] f16: first bits of x, then the rest; single: [1, k, m]
@group(0) @binding(1) var<storage, read> a_scales: array<f32>; // [m], powers of two
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>; // [2, k, n] f16 of the weight, likewise; exact and single: [1, k, n]
@group(0) @binding(3) var<storage, read> b_scales: array<vec4<f32>>; // [n]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

fn depth() -> u32 {
    return params.k;
}

fn rows() -> u32 {
    return params.m;
}

fn columns() -> u32 {
    return params.n;
}

fn left_out(row: u32, column: u32) -> bool {
    return params.upper == 1u && column < row;
}

// Stores four sums of a row.
fn finish(row: u32, column: u32, sums: vec4<f32>) {
    if left_out(row / 128u * 128u, column) {
        return;
    }
    let at = (row * params.out_stride + params.out_first + column) / 4u;
    var result = sums * (a_scales[row] * b_scales[column / 4u]);
    if params.epilogue == RELU_SQUARED {
        result = select(result * result, vec4(0.0), result < vec4(0.0));
    } else if params.epilogue == ADD {
        result += out[at];
    }
    out[at] = result;
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
