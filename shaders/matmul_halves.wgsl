// A matrix product of numbers that split_rows.wgsl or split_columns.wgsl has cut into two f16 each, the weight's or all into one. Here in f32, for what
// has no matrix units after all. One thread: an output.
#import store_columns

struct Params {
    m: u32, // rows of x, a multiple of 8
    n: u32, // rows of the weight, likewise
    k: u32,
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
    upper: u32, // 1: outputs in tiles of 128 x 128 wholly below the diagonal stay as they are
}

const SIDE = 16u;
const TILE = 64u; // outputs along each side of what the host counts as a workgroup

@group(0) @binding(0) var<storage, read> a: array<u32>; // [2, k, m] f16: first bits of x, then the rest; single: [1, k, m]
@group(0) @binding(1) var<storage, read> a_scales: array<f32>; // [m], powers of two
@group(0) @binding(2) var<storage, read> b: array<u32>; // [2, k, n] f16 of the weight, likewise; exact and single: [1, k, n]
@group(0) @binding(3) var<storage, read> b_scales: array<f32>; // [n]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

fn a_at(at: u32) -> f32 {
    return unpack2x16float(a[at / 2u])[at % 2u];
}

fn b_at(at: u32) -> f32 {
    return unpack2x16float(b[at / 2u])[at % 2u];
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    for (var e = 0u; e < (TILE / SIDE) * (TILE / SIDE); e++) {
        let row = workgroup.y * TILE + e / (TILE / SIDE) * SIDE + thread.y;
        let col = workgroup.x * TILE + e % (TILE / SIDE) * SIDE + thread.x;
        let below = params.upper == 1u && col < row / 128u * 128u;
        if row < params.m && col < params.n && !below {
            var sum = 0.0;
            for (var k = 0u; k < params.k; k++) {
#ifdef single
                let x = a_at(k * params.m + row);
#else
                let x = a_at(k * params.m + row) + a_at((params.k + k) * params.m + row);
#endif
#ifdef exact single
                let w = b_at(k * params.n + col);
#else
                let w = b_at(k * params.n + col) + b_at((params.k + k) * params.n + col);
#endif
                sum += x * w;
            }
            store_at(row, col, sum * (a_scales[row] * b_scales[col]));
        }
    }
}
