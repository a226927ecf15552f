// matmul_f32 with f16 weights through workgroup memory, where they stay f16: half the memory and half the traffic to
// it, and nothing is rounded, as products and sums are f32. A workgroup makes 64 x 64 outputs, a thread 8 x 8
// (shared/tile.wgsl), 16 steps of k at a time. Any m, n, k.
#import tile

struct Params {
    m: u32, // rows of x
    n: u32, // rows of weight
    k: u32, // columns of both
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

const DEPTH = 16u;
const PITCH = 17u; // vec4s from a step to the next: 16, padded against bank conflicts

@group(0) @binding(0) var<storage, read> x: array<f32>; // [m, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k], rows start at words
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f32>, DEPTH * PITCH>; // [step, row / 4]
// [step, column / 4] with the 8 columns of a thread, 8 apart, beside each other.
var<workgroup> tile_w: array<vec4<f16>, DEPTH * PITCH>;

// One step of every fourth row of x; zero beyond the end, so that the weight there does not count.
fn stage_x(row0: u32, k0: u32, thread: u32) {
    let step = thread % DEPTH;
    let k = k0 + step;
    for (var row = thread / DEPTH; row < 8u * SIDE; row += 4u) {
        let value = x[min(row0 + row, params.m - 1u) * params.k + min(k, params.k - 1u)];
        tile_x[step * PITCH + row / 4u][row % 4u] = select(0.0, value, k < params.k);
    }
}

// Two steps of four columns, `SIDE` apart.
fn stage_w(col: u32, k0: u32, pair: u32, at: u32) {
    let words = (params.k + 1u) / 2u;
    let i = columns(col) * words + min(k0 / 2u + pair, words - 1u);
    let a = vec2<f16>(unpack2x16float(weight[i.x]));
    let b = vec2<f16>(unpack2x16float(weight[i.y]));
    let c = vec2<f16>(unpack2x16float(weight[i.z]));
    let d = vec2<f16>(unpack2x16float(weight[i.w]));
    tile_w[2u * pair * PITCH + at] = vec4(a.x, b.x, c.x, d.x);
    tile_w[(2u * pair + 1u) * PITCH + at] = vec4(a.y, b.y, c.y, d.y);
}

// Row i of the block plus x[i] w.
fn add_outer(block: mat4x4<f32>, x: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(block[0] + x.x * w, block[1] + x.y * w, block[2] + x.z * w, block[3] + x.w * w);
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    let at = corner(workgroup, thread);
    let index = thread.y * SIDE + thread.x;
    let col0 = workgroup.x * 8u * SIDE;
    let side = index / 8u; // of which this thread stages the columns
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
        stage_x(workgroup.y * 8u * SIDE, k0, index);
        stage_w(col0 + side, k0, index % 8u, 2u * side);
        stage_w(col0 + side + BLOCK, k0, index % 8u, 2u * side + 1u);
        workgroupBarrier();
        for (var step = 0u; step < DEPTH; step++) {
            let x0 = tile_x[step * PITCH + 2u * thread.y];
            let x1 = tile_x[step * PITCH + 2u * thread.y + 1u];
            let w0 = vec4<f32>(tile_w[step * PITCH + 2u * thread.x]);
            let w1 = vec4<f32>(tile_w[step * PITCH + 2u * thread.x + 1u]);
            a00 = add_outer(a00, x0, w0);
            a01 = add_outer(a01, x0, w1);
            a10 = add_outer(a10, x1, w0);
            a11 = add_outer(a11, x1, w1);
        }
        workgroupBarrier();
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
