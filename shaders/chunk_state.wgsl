// states[c, h, p, n] = sum over l in chunk c of exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]: what a chunk adds
// to the state (Dao & Gu 2024, arXiv:2405.21060, section 6). head_dim and state are multiples of 4.
// One workgroup: 64 p by 64 n of one head. A thread: p 4i..4i+4 and 32 further, n likewise.
#import index
#import matrix

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 64u;
const TILE4 = 16u; // a tile's side, in vec4
const HALF4 = 8u;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> states: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> weights: array<f32, WG>;

// Four rows of xbc from `row` on at one column; beyond `last` it repeats (their weight is zero).
fn rows4(row: u32, last: u32, column: u32) -> mat4x4<f32> {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last)) * stride + column;
    return mat4x4(xbc[at.x], xbc[at.y], xbc[at.z], xbc[at.w]);
}

// Rows p, p+1, p+2, p+3 of the state at column n.
fn store(row: u32, n: u32, sum: mat4x4<f32>) {
    let width = params.state / 4u;
    if n < width {
        states[row * width + n] = sum[0];
        states[(row + 1u) * width + n] = sum[1];
        states[(row + 2u) * width + n] = sum[2];
        states[(row + 3u) * width + n] = sum[3];
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let p_end = params.head_dim / 4u;
    let n_end = params.state / 4u;
    let p_tiles = (p_end + TILE4 - 1u) / TILE4;
    let n_tiles = (n_end + TILE4 - 1u) / TILE4;
    var item = linear_workgroup(workgroup, grid);
    let n0 = item % n_tiles * TILE4;
    item /= n_tiles;
    let p0 = item % p_tiles * TILE4;
    item /= p_tiles;
    let head = item % params.heads;
    let chunk = item / params.heads;
    let first = chunk * params.chunk;
    if first >= params.tokens {
        return;
    }
    let last = min(first + params.chunk, params.tokens) - 1u;

    let p = p0 + thread / HALF4;
    let n = n0 + thread % HALF4;
    let two_p = p0 + HALF4 < p_end;
    let two_n = n0 + HALF4 < n_end;
    let group = head / (params.heads / params.groups);
    let x_at = head * p_end;
    let b_at = params.heads * p_end + group * n_end;
    let xa = x_at + min(p, p_end - 1u);
    let xb = x_at + min(p + HALF4, p_end - 1u);
    let ba = b_at + min(n, n_end - 1u);
    let bb = b_at + min(n + HALF4, n_end - 1u);
    let decay_last = da_cumsum[head * params.tokens + last];
    var sum_aa = mat4x4<f32>(); // sums for the two halves of p and of n: columns p, rows n
    var sum_ab = mat4x4<f32>();
    var sum_ba = mat4x4<f32>();
    var sum_bb = mat4x4<f32>();
    for (var start = first; start <= last; start += WG) {
        workgroupBarrier();
        let l = head * params.tokens + min(start + thread, last);
        weights[thread] = select(0.0, exp(decay_last - da_cumsum[l]) * dt[l], start + thread <= last);
        workgroupBarrier();
        let count = min(WG, last + 1u - start);
        for (var i = 0u; i < count; i += 4u) {
            let row = start + i;
            let w = vec4(weights[i], weights[i + 1u], weights[i + 2u], weights[i + 3u]);
            let b0 = rows4(row, last, ba);
            let x0 = transpose(scale_columns(rows4(row, last, xa), w));
            sum_aa += b0 * x0;
            if two_n {
                sum_ab += rows4(row, last, bb) * x0;
            }
            if two_p {
                let x1 = transpose(scale_columns(rows4(row, last, xb), w));
                sum_ba += b0 * x1;
                if two_n {
                    sum_bb += rows4(row, last, bb) * x1;
                }
            }
        }
    }
    let row = (chunk * params.heads + head) * params.head_dim;
    if p < p_end {
        store(row + 4u * p, n, sum_aa);
        store(row + 4u * p, n + HALF4, sum_ab);
    }
    if p + HALF4 < p_end {
        store(row + 4u * (p + HALF4), n, sum_ba);
        store(row + 4u * (p + HALF4), n + HALF4, sum_bb);
    }
}
