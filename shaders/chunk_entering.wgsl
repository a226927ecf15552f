// chunk_state.wgsl and state_passing.wgsl in one, of f16 tensors: entering[c] = S before chunk c as f16, then
// S = exp(da[last of c]) S + sum over l in c of exp(da[last] - da[l]) dt[l] x[l, p] B[l, n], in f32; ssm_state = S after the last
// chunk (Dao & Gu 2024, arXiv:2405.21060, section 6). head_dim and state are multiples of 4.
// One workgroup: 64 p by 64 n of one head, chunks in turn. A thread: p 4i..4i+4, n likewise.
#import half_words
#import index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 256u;
const SIDE = 16u; // of a tile, in vec4s

@group(0) @binding(0) var<storage, read> xbc: array<vec2<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> ssm_state: array<vec4<f32>>; // [heads, head_dim * state]
@group(0) @binding(4) var<storage, read_write> entering: array<vec2<u32>>; // [chunks, heads * head_dim * state] f16
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let p_end = params.head_dim / 4u;
    let n_end = params.state / 4u;
    let p_tiles = (p_end + SIDE - 1u) / SIDE;
    let n_tiles = (n_end + SIDE - 1u) / SIDE;
    var item = linear_workgroup(workgroup, grid);
    let n = item % n_tiles * SIDE + thread % SIDE;
    item /= n_tiles;
    let p = item % p_tiles * SIDE + thread / SIDE;
    let head = item / p_tiles;
    if head >= params.heads || p >= p_end || n >= n_end {
        return;
    }
    let stride = params.heads * p_end + 2u * params.groups * n_end;
    let x_at = head * p_end + p;
    let b_at = params.heads * p_end + head / (params.heads / params.groups) * n_end + n;
    let at = (head * params.head_dim + 4u * p) * n_end + n;
    let rows = at + n_end * vec4(0u, 1u, 2u, 3u); // p, p + 1, p + 2, p + 3
    var s = mat4x4(ssm_state[rows.x], ssm_state[rows.y], ssm_state[rows.z], ssm_state[rows.w]); // columns are p, rows n
    var chunk = 0u; // where its entering state begins
    for (var first = 0u; first < params.tokens; first += params.chunk) {
        entering[chunk + rows.x] = words_of(s[0]);
        entering[chunk + rows.y] = words_of(s[1]);
        entering[chunk + rows.z] = words_of(s[2]);
        entering[chunk + rows.w] = words_of(s[3]);
        chunk += params.heads * params.head_dim * n_end;
        let end = min(first + params.chunk, params.tokens);
        let decay_last = da_cumsum[head * params.tokens + end - 1u];
        s *= exp(decay_last);
        for (var l = first; l < end; l++) {
            let i = head * params.tokens + l;
            let x = halves4(xbc[l * stride + x_at]) * (exp(decay_last - da_cumsum[i]) * dt[i]);
            let b = halves4(xbc[l * stride + b_at]);
            s += mat4x4(b * x.x, b * x.y, b * x.z, b * x.w);
        }
    }
    ssm_state[rows.x] = s[0];
    ssm_state[rows.y] = s[1];
    ssm_state[rows.z] = s[2];
    ssm_state[rows.w] = s[3];
}
