// One token of a sequence in a Mamba-2 mixer: causal_conv1d_update, then selective_state_update. A workgroup has 32
// rows (mixer_rows.wgsl), whose state elements eight threads share. It makes the group's B and C itself. The windows of its x channels are
// its own; those of B and C are shared, so the last workgroup of the group to have read them moves them on: tickets count the
// workgroups, and are 0 between dispatches. That is safe though WGSL's atomics order nothing else: what was read went into
// workgroup memory before the barrier before the ticket. All loads of the state start before the convolution, whose latency they hide in.
// The importing shader has `params` as mixer_rows.wgsl wants them and with taps, dt_min and dt_max, the bindings `input`, `conv_state`,
// `ssm_state` and `tickets`, and what reads a mixer's vectors: `conv_weight`, `conv_bias` and `head_vector` (dt_bias, a_log and d).
#import float
#import mixer_rows
#import state_row

const MAX_STATE = 256u;

var<workgroup> b: array<f32, MAX_STATE>;
var<workgroup> c: array<f32, MAX_STATE>;
var<workgroup> sums: array<f32, WG>;
var<workgroup> is_last: u32;
// The sequence, and where its input and window of a channel start.
var<private> sequence: u32;
var<private> input_at: u32;
var<private> conv_at: u32;

// A channel's window without its oldest column, as far as there is one, its input, and what comes of them.
struct Conv {
    older: vec3<f32>,
    newest: f32,
    out: f32,
}

// What a token leaves to do: y of the row, in the first of its threads, and a channel of B or C whose window stays yet.
struct Updated {
    y: f32,
    channel: u32,
    window: Conv,
}

fn conv(channel: u32) -> Conv {
    let row = channel * params.taps;
    let last = params.taps - 1u;
    let j = vec3(0u, 1u, 2u);
    let w = row + min(j, vec3(last));
    let v = conv_at + row + min(j + 1u, vec3(last));
    let weights = vec3(conv_weight(w.x), conv_weight(w.y), conv_weight(w.z));
    let older = vec3(conv_state[v.x], conv_state[v.y], conv_state[v.z]);
    let newest = input[input_at + channel];
    let products = select(vec3(0.0), weights * older, j < vec3(last));
    let sum = conv_bias(channel) + products.x + products.y + products.z + conv_weight(row + last) * newest;
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

// Both states of the workgroup's rows, but for the windows that `move_shared` moves. All of a workgroup call it together.
fn update(at: Spot) -> Updated {
    let thread = at.thread;
    let lane = thread % LANES;
    let d_inner = params.heads * params.head_dim;
    let state_row = sequence * d_inner + at.row;

    var before = fetch_state(state_row, lane);
    let own = conv(at.row);
    let both = 2u * params.state;
    let mine = shared_channel(at.group, min(thread, both - 1u));
    let first = conv(mine);
    let dt = input[input_at + channels() + at.head];
    let step = clamp(softplus(dt + head_vector(at.head)), params.dt_min, params.dt_max);
    let decay = exp(-exp(head_vector(params.heads + at.head)) * step);
    let skip = head_vector(2u * params.heads + at.head);
    if thread < both {
        share(thread, first.out);
    }
    for (var i = thread + WG; i < both; i += WG) {
        share(i, conv(shared_channel(at.group, i)).out);
    }
    workgroupBarrier();

    var ticket = 0u;
    if thread == 0u {
        ticket = atomicAdd(&tickets[sequence * params.groups + at.group], 1u);
    }
    var sum = 0.0;
    if at.inside {
        if lane == 0u {
            move_on(at.row, own);
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
        is_last = select(0u, 1u, ticket + 1u == tiles());
    }
    workgroupBarrier();
    if lane == 0u {
        for (var i = 1u; i < LANES; i++) {
            sum += sums[thread + i];
        }
    }
    return Updated(sum + skip * own.out, mine, first);
}

// The windows of B and C, where all of the group's workgroups have read them.
fn move_shared(at: Spot, done: Updated) {
    if is_last == 0u {
        return;
    }
    let both = 2u * params.state;
    if at.thread == 0u {
        atomicStore(&tickets[sequence * params.groups + at.group], 0u);
    }
    if at.thread < both {
        move_on(done.channel, done.window);
    }
    for (var i = at.thread + WG; i < both; i += WG) {
        let channel = shared_channel(at.group, i);
        move_on(channel, conv(channel));
    }
}
