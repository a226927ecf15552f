// One token of the recurrence: S = exp(dt A) S + dt x Bᵀ, y = S C + D x, dt = clamp(softplus(raw + bias)),
// A = -exp(a_log) (Dao & Gu 2024, arXiv:2405.21060). head_dim and state are multiples of 4.
// One workgroup: 8 rows (sequence, head, p) of the state by 8 threads, which share the row's state elements.
#import float
#import index
#import state_row

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    offset: u32, // first column of dt_raw
    dt_min: f32,
    dt_max: f32,
    stride: u32, // of dt_raw
    sequences: u32,
}

const WG = 64u;
const LANES = 8u;

@group(0) @binding(0) var<storage, read> xbc: array<f32>; // [sequences, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt_raw: array<f32>; // [sequences, stride]
@group(0) @binding(2) var<storage, read> dt_bias: array<f32>; // [heads]
@group(0) @binding(3) var<storage, read> a_log: array<f32>; // [heads]
@group(0) @binding(4) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(5) var<storage, read_write> ssm_state: array<vec4<f32>>; // [sequences * heads, head_dim * state]
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // [sequences, heads * head_dim]
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> sums: array<f32, WG>;
// Where the thread's B and C start.
var<private> b_at: u32;
var<private> c_at: u32;

fn xbc4(at: u32) -> vec4<f32> {
    return vec4(xbc[at], xbc[at + 1u], xbc[at + 2u], xbc[at + 3u]);
}

// Vec4 n of a row after this token, stored; gives its part of y.
fn advance(row: u32, n: u32, before: vec4<f32>, decay: f32, x: f32) -> f32 {
    if n >= params.state / 4u {
        return 0.0;
    }
    let value = decay * before + x * xbc4(b_at + 4u * n);
    ssm_state[row * (params.state / 4u) + n] = value;
    return dot(value, xbc4(c_at + 4u * n));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let d_inner = params.heads * params.head_dim;
    let row = linear_workgroup(workgroup, grid) * (WG / LANES) + thread / LANES;
    let lane = thread % LANES;
    let rows = params.sequences * d_inner;
    let here = min(row, rows - 1u); // threads beyond the end read this one and write nothing
    let sequence = here / d_inner;
    let head = here % d_inner / params.head_dim;
    let group = head / (params.heads / params.groups);
    let step = clamp(softplus(dt_raw[sequence * params.stride + params.offset + head] + dt_bias[head]), params.dt_min, params.dt_max);
    let decay = exp(-exp(a_log[head]) * step);
    let token = sequence * (d_inner + 2u * params.groups * params.state);
    let x = xbc[token + here % d_inner];
    b_at = token + d_inner + group * params.state;
    c_at = b_at + params.groups * params.state;
    var sum = 0.0;
    if row < rows {
        for (var n = lane; n < params.state / 4u; n += 4u * LANES) {
            sum += advance_state(row, n, fetch_state(row, n), decay, step * x);
        }
    }
    sums[thread] = sum;
    workgroupBarrier();
    if lane == 0u && row < rows {
        for (var i = 1u; i < LANES; i++) {
            sum += sums[thread + i];
        }
        y[row] = sum + d[head] * x;
    }
}
