// out = x · weightᵀ with f32 sums, then the epilogue. Weights are stored as f32, f16 or bf16 (the format word).
// A thread makes 8 x 8 outputs (shared/tile.wgsl), four steps of k at a time. Any m, n, k.
#import tile

struct Params {
    m: u32, // rows of x
    n: u32, // rows of weight
    k: u32, // columns of both
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

@group(0) @binding(0) var<storage, read> x: array<f32>; // [m, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k], rows start at words
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(3) var<uniform> params: Params;

// Four steps of one row of x; zero beyond the end, so that the weight there does not count.
fn x4(row: u32, k: u32) -> vec4<f32> {
    let last = params.k - 1u;
    let start = row * params.k;
    let i = start + min(vec4(k, k + 1u, k + 2u, k + 3u), vec4(last));
    let v = vec4(x[i.x], x[i.y], x[i.z], x[i.w]);
    return select(v, vec4(0.0), vec4(k, k + 1u, k + 2u, k + 3u) > vec4(last));
}

fn weight4(row: u32, k: u32) -> vec4<f32> {
#ifdef w_f32
    let last = params.k - 1u;
    let start = row * params.k;
    let i = start + min(vec4(k, k + 1u, k + 2u, k + 3u), vec4(last));
    return bitcast<vec4<f32>>(vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]));
#else
    let words = (params.k + 1u) / 2u;
    let start = row * words;
    let pair = vec2(weight[start + k / 2u], weight[start + min(k / 2u + 1u, words - 1u)]);
#ifdef w_f16
    return vec4(unpack2x16float(pair.x), unpack2x16float(pair.y));
#else
    return bitcast<vec4<f32>>(vec4(pair.x << 16u, pair.x & 0xffff0000u, pair.y << 16u, pair.y & 0xffff0000u));
#endif
#endif
}

// 4 rows of x, one a column.
fn x_block(row: u32, k: u32) -> mat4x4<f32> {
    let r = rows(row);
    return mat4x4(x4(r.x, k), x4(r.y, k), x4(r.z, k), x4(r.w, k));
}

// 4 rows of weight, one a row.
fn weight_block(col: u32, k: u32) -> mat4x4<f32> {
    let c = columns(col);
    return transpose(mat4x4(weight4(c.x, k), weight4(c.y, k), weight4(c.z, k), weight4(c.w, k)));
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    let at = corner(workgroup, thread);
    if at.row >= params.m {
        return;
    }
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    for (var k = 0u; k < params.k; k += 4u) {
        let w0 = weight_block(at.col, k);
        let w1 = weight_block(at.col + BLOCK, k);
        let x0 = x_block(at.row, k);
        let x1 = x_block(at.row + 4u, k);
        a00 += w0 * x0;
        a01 += w1 * x0;
        a10 += w0 * x1;
        a11 += w1 * x1;
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
