// One token of each sequence in a Mamba-2 mixer between its projections: causal_conv1d_update, then selective_state_update, in one dispatch.
// One workgroup: 32 rows (head, p) of one head of a sequence by 8 threads, which share the row's state elements. It makes B and C of
// its group itself. The windows of its x channels are its own; those of B and C are shared, so the last workgroup of the
// group to have read them moves them on: tickets count the workgroups, and are 0 between dispatches. That is safe though
// WGSL's atomics order nothing else: what was read went into workgroup memory before the barrier before the ticket.
// All loads of the state start before the convolution, whose latency they hide in.
#import float
#import index
#import state_row

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most MAX_STATE
    taps: u32, // at most 4
    offset: u32, // first input column of x, B, C and dt
    dt_min: f32,
    dt_max: f32,
    stride: u32, // of the input
    sequences: u32,
}

const WG = 256u;
const LANES = 8u;
const ROWS = 32u;
const MAX_STATE = 256u;

@group(0) @binding(0) var<storage, read> input: array<f32>; // [sequences, stride] x | B | C | dt from column offset
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [channels, taps]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> per_head: array<f32>; // [3, heads] dt_bias, a_log, d
@group(0) @binding(4) var<storage, read_write> conv_state: array<f32>; // [sequences * channels, taps]
@group(0) @binding(5) var<storage, read_write> ssm_state: array<vec4<f32>>; // [sequences * heads, head_dim * state]
@group(0) @binding(6) var<storage, read_write> tickets: array<atomic<u32>>; // [sequences * groups]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [sequences, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> b: array<f32, MAX_STATE>;
var<workgroup> c: array<f32, MAX_STATE>;
var<workgroup> sums: array<f32, WG>;
var<workgroup> is_last: u32;
// Where the sequence's input and window of a channel start.
var<private> input_at: u32;
var<private> conv_at: u32;

// A channel's window without its oldest column, as far as there is one, its input, and what comes of them.
struct Conv {
    older: vec3<f32>,
    newest: f32,
    out: f32,
}

fn conv(channel: u32) -> Conv {
    let row = channel * params.taps;
    let last = params.taps - 1u;
    let j = vec3(0u, 1u, 2u);
    let w = row + min(j, vec3(last));
    let v = conv_at + row + min(j + 1u, vec3(last));
    let weights = vec3(weight[w.x], weight[w.y], weight[w.z]);
    let older = vec3(conv_state[v.x], conv_state[v.y], conv_state[v.z]);
    let newest = input[input_at + channel];
    let products = select(vec3(0.0), weights * older, j < vec3(last));
    let sum = bias[channel] + products.x + products.y + products.z + weight[row + last] * newest;
    return Conv(older, newest, silu(sum));
}

// The window one token on.
fn move_on(channel: u32, done: Conv) {
    let row = conv_at + channel * params.taps;
    let last = params.taps - 1u;
    if last > 0u {
        conv_state[row] = done.older.x;
    }
    if last > 1u {
        conv_state[row + 1u] = done.older.y;
    }
    if last > 2u {
        conv_state[row + 2u] = done.older.z;
    }
    conv_state[row + last] = done.newest;
}

// Channel of element i of B, or of C behind it.
fn shared_channel(group: u32, i: u32) -> u32 {
    let at = params.heads * params.head_dim + group * params.state;
    return at + select(i, params.groups * params.state + i - params.state, i >= params.state);
}

fn share(i: u32, value: f32) {
    if i < params.state {
        b[i] = value;
    } else {
        c[i - params.state] = value;
    }
}

// Vec4 n of a row after this token, stored; gives its part of y.
fn advance(row: u32, n: u32, before: vec4<f32>, decay: f32, x: f32) -> f32 {
    if n >= params.state / 4u {
        return 0.0;
    }
    let i = 4u * n;
    let value = decay * before + x * vec4(b[i], b[i + 1u], b[i + 2u], b[i + 3u]);
    ssm_state[row * (params.state / 4u) + n] = value;
    return dot(value, vec4(c[i], c[i + 1u], c[i + 2u], c[i + 3u]));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.head_dim + ROWS - 1u) / ROWS;
    let item = linear_workgroup(workgroup, grid);
    let sequence = item / (tiles * params.heads);
    if sequence >= params.sequences {
        return;
    }
    let head = item / tiles % params.heads;
    let d_inner = params.heads * params.head_dim;
    input_at = sequence * params.stride + params.offset;
    conv_at = sequence * (d_inner + 2u * params.groups * params.state) * params.taps;
    let repeats = params.heads / params.groups;
    let group = head / repeats;
    let p = item % tiles * ROWS + thread / LANES;
    let inside = p < params.head_dim; // other threads read the last row and write nothing
    let row = head * params.head_dim + min(p, params.head_dim - 1u);
    let state_row = sequence * d_inner + row;
    let lane = thread % LANES;

    var before = fetch_state(state_row, lane);
    let own = conv(row);
    let both = 2u * params.state;
    let mine = shared_channel(group, min(thread, both - 1u));
    let first = conv(mine);
    let dt_at = input_at + d_inner + both * params.groups + head;
    let step = clamp(softplus(input[dt_at] + per_head[head]), params.dt_min, params.dt_max);
    let decay = exp(-exp(per_head[params.heads + head]) * step);
    let skip = per_head[2u * params.heads + head];
    if thread < both {
        share(thread, first.out);
    }
    for (var i = thread + WG; i < both; i += WG) {
        share(i, conv(shared_channel(group, i)).out);
    }
    workgroupBarrier();

    var ticket = 0u;
    if thread == 0u {
        ticket = atomicAdd(&tickets[sequence * params.groups + group], 1u);
    }
    var sum = 0.0;
    if inside {
        if lane == 0u {
            move_on(row, own);
        }
        let x = step * own.out;
        for (var n = lane; n < params.state / 4u; n += 4u * LANES) {
            if n != lane {
                before = fetch_state(state_row, n);
            }
            sum += advance_state(state_row, n, before, decay, x);
        }
    }
    sums[thread] = sum;
    if thread == 0u {
        is_last = select(0u, 1u, ticket + 1u == repeats * tiles);
    }
    workgroupBarrier();
    if lane == 0u && inside {
        for (var i = 1u; i < LANES; i++) {
            sum += sums[thread + i];
        }
        y[state_row] = sum + skip * own.out;
    }
    if is_last == 1u {
        if thread == 0u {
            atomicStore(&tickets[sequence * params.groups + group], 0u);
        }
        if thread < both {
            move_on(mine, first);
        }
        for (var i = thread + WG; i < both; i += WG) {
            let channel = shared_channel(group, i);
            move_on(channel, conv(channel));
        }
    }
}
