// Few tokens of one sequence in a Mamba-2 mixer, one after the other: of each causal_conv1d_update, then selective_state_update. A workgroup has 32
// rows (mixer_rows.wgsl), whose state its threads hold in registers for all tokens, of which four share barriers. A convolution's window is columns
// of the input and, before them, of conv_state, which is moved on behind the last token: of x by its workgroup, of the group's B and C by the last
// workgroup to have read them (tickets, as in token_update.wgsl; only the first span's tokens read them). The importing shader has `params` as
// mixer_rows.wgsl wants them and with taps, dt_min, dt_max, tokens, offset and stride, the bindings `input`, `conv_state`, `ssm_state` and `tickets`,
// `gate_of`, which y of a token's row is times, and what reads a mixer's vectors: `conv_weight`, `conv_bias` and `head_vector` (dt_bias, a_log and d).
#import float
#import mixer_rows

const MAX_STATE = 128u;
const SPAN = 4u; // tokens between barriers

// Of a span's tokens.
var<workgroup> b: array<f32, SPAN * MAX_STATE>;
var<workgroup> c: array<f32, SPAN * MAX_STATE>;
var<workgroup> of_rows: array<vec4<f32>, SPAN * ROWS>; // the state's factor, what B is times, what y has without the state, and the gate
var<workgroup> sums: array<f32, SPAN * WG>;
var<workgroup> is_last: u32;

// A channel `back` tokens before `token`, less than the taps.
fn before(channel: u32, token: u32, back: u32) -> f32 {
    if back <= token {
        return input[(token - back) * params.stride + params.offset + channel];
    }
    return conv_state[channel * params.taps + params.taps + token - back];
}

fn conv(channel: u32, token: u32) -> f32 {
    let last = params.taps - 1u;
    let row = channel * params.taps;
    var sum = conv_bias(channel);
    for (var j = 0u; j < 3u; j++) {
        if j < last {
            sum += conv_weight(row + j) * before(channel, token, last - j);
        }
    }
    return silu(sum + conv_weight(row + last) * before(channel, token, 0u));
}

// The window behind the last token; of fewer taps its newest several times.
fn move_on(channel: u32) {
    let last = params.taps - 1u;
    let token = params.tokens - 1u;
    let j = min(vec4(0u, 1u, 2u, 3u), vec4(last));
    let back = last - j;
    let at = channel * params.taps + j;
    // All are read before one is written: they may be of the window before.
    let oldest = before(channel, token, back.x);
    let older = before(channel, token, back.y);
    let old = before(channel, token, back.z);
    let newest = before(channel, token, back.w);
    conv_state[at.x] = oldest;
    conv_state[at.y] = older;
    conv_state[at.z] = old;
    conv_state[at.w] = newest;
}

// The vec4s of a row's state that a thread holds, as far as there are such.
fn held(at: Spot) -> vec4<u32> {
    let lane = at.thread % LANES;
    return vec4(lane, lane + LANES, lane + 2u * LANES, lane + 3u * LANES);
}

// The row's state; the last vec4 for those beyond its end.
fn fetch(at: Spot) -> mat4x4<f32> {
    let width = params.state / 4u;
    let i = at.row * width + min(held(at), vec4(width - 1u));
    return mat4x4(ssm_state[i.x], ssm_state[i.y], ssm_state[i.z], ssm_state[i.w]);
}

// Stores vec4 n of it.
fn put(at: Spot, n: u32, state: vec4<f32>) {
    let width = params.state / 4u;
    if at.inside && n < width {
        ssm_state[at.row * width + n] = state;
    }
}

// What `count` tokens from `first` on need beside the state, for all of the workgroup.
fn prepare(item: u32, group: u32, first: u32, count: u32, thread: u32) {
    let both = 2u * params.state;
    for (var i = thread; i < count * both; i += WG) {
        let t = i / max(both, 1u);
        let element = i - t * both;
        let value = conv(shared_channel(group, element), first + t);
        if element < params.state {
            b[t * MAX_STATE + element] = value;
        } else {
            c[t * MAX_STATE + element - params.state] = value;
        }
    }
    if thread < count * ROWS {
        let token = first + thread / ROWS;
        let at = spot_of_row(item, thread % ROWS, thread);
        let x = conv(at.row, token);
        let dt = input[token * params.stride + params.offset + channels() + at.head];
        let step = clamp(softplus(dt + head_vector(at.head)), params.dt_min, params.dt_max);
        let decay = exp(-exp(head_vector(params.heads + at.head)) * step);
        let skip = head_vector(2u * params.heads + at.head);
        of_rows[thread] = vec4(decay, step * x, skip * x, gate_of(token, at.row));
    }
}

// A vec4 of a row's state after token t of the span.
fn advanced(state: vec4<f32>, n: u32, t: u32, of_row: vec4<f32>) -> vec4<f32> {
    let i = t * MAX_STATE + 4u * n;
    return of_row.x * state + of_row.y * vec4(b[i], b[i + 1u], b[i + 2u], b[i + 3u]);
}

// Its part of y.
fn seen(state: vec4<f32>, n: u32, t: u32) -> f32 {
    let i = t * MAX_STATE + 4u * n;
    return select(0.0, dot(state, vec4(c[i], c[i + 1u], c[i + 2u], c[i + 3u])), n < params.state / 4u);
}

// The state behind `count` tokens from `first` on. All of a workgroup call it together; then `y_of` has their y, which each thread asks for its
// own place alone, as the next span's is written there before a barrier.
fn through(before: mat4x4<f32>, at: Spot, item: u32, first: u32, count: u32) -> mat4x4<f32> {
    prepare(item, at.group, first, count, at.thread);
    workgroupBarrier();
    if first == 0u && at.thread == 0u {
        let ticket = atomicAdd(&tickets[at.group], 1u);
        is_last = select(0u, 1u, ticket + 1u == tiles());
    }
    let n = held(at);
    var state = before;
    for (var t = 0u; t < count; t++) {
        let of_row = of_rows[t * ROWS + at.thread / LANES];
        state = mat4x4(
            advanced(state[0], n.x, t, of_row),
            advanced(state[1], n.y, t, of_row),
            advanced(state[2], n.z, t, of_row),
            advanced(state[3], n.w, t, of_row),
        );
        let near = seen(state[0], n.x, t) + seen(state[1], n.y, t);
        sums[t * WG + at.thread] = near + seen(state[2], n.z, t) + seen(state[3], n.w, t);
    }
    workgroupBarrier();
    return state;
}

// y of token `at / ROWS` of the span in the workgroup's row `at % ROWS`, times its gate.
fn y_of(at: u32) -> f32 {
    let of_row = of_rows[at];
    let first = at / ROWS * WG + at % ROWS * LANES;
    var y = of_row.z;
    for (var i = 0u; i < LANES; i++) {
        y += sums[first + i];
    }
    return y * of_row.w;
}

// Both states behind the last token. All of a workgroup call it together.
fn leave(state: mat4x4<f32>, at: Spot, item: u32) {
    let n = held(at);
    put(at, n.x, state[0]);
    put(at, n.y, state[1]);
    put(at, n.z, state[2]);
    put(at, n.w, state[3]);
    if at.thread < ROWS {
        let own = spot_of_row(item, at.thread, at.thread);
        if own.inside {
            move_on(own.row);
        }
    }
    if is_last == 0u {
        return;
    }
    if at.thread == 0u {
        atomicStore(&tickets[at.group], 0u);
    }
    for (var i = at.thread; i < 2u * params.state; i += WG) {
        move_on(shared_channel(at.group, i));
    }
}
