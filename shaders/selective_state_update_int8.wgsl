// One token of each sequence of the recurrence (selective_state_update) on a stored state (ssm_load): with S the rounded state,
// y = exp(L) S C + sum over j of exp(L - L_j) (B_j . C) x_j + D x over the recent tokens j, the new one included, which
// is appended to them. What is stored is H D S (shared/fwht.wgsl): S C = (H D S)(H D C). So y is exact but for the last rounding of S.
// One workgroup: 64 rows (head, p) of one head of a sequence, half of them at a time; 8 threads share a row's state elements,
// or a recent token's dot. Codes and recent tokens of all its rows are on their way before anything else is done.
#import float
#import fwht
#import index
#import pack
#import recent

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most 256
    stride: u32, // of dt_raw
    offset: u32, // first column of dt_raw
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens, at most 64
    sequences: u32,
    dt_min: f32,
    dt_max: f32,
}

const WG = 256u;
const LANES = 8u;
const ROWS = 32u; // at a time
const TILE = 64u;

@group(0) @binding(0) var<storage, read> xbc: array<f32>; // [sequences, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt_raw: array<f32>; // [sequences, stride]
@group(0) @binding(2) var<storage, read> per_head: array<f32>; // [3, heads] dt_bias, a_log, d
@group(0) @binding(3) var<storage, read> codes: array<u32>; // [sequences * heads * head_dim, state] int8
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(5) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(6) var<storage, read_write> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [sequences, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> sums: array<vec2<f32>, WG>;
var<workgroup> plain_c: array<f32, LINE>;
var<workgroup> weights: array<f32, 64>; // of recent tokens' x in y

// The sum of eight threads' values; every thread of the workgroup calls it.
fn lanes_sum(value: vec2<f32>, thread: u32) -> vec2<f32> {
    workgroupBarrier();
    sums[thread] = value;
    workgroupBarrier();
    let first = thread / LANES * LANES;
    var sum = vec2(0.0);
    for (var i = 0u; i < LANES; i++) {
        sum += sums[first + i];
    }
    return sum;
}

// Words n, n + LANES, n + 2 LANES and n + 3 LANES of a row's codes; the last one for those beyond the end.
fn fetch_codes(row: u32, n: u32) -> vec4<u32> {
    let words = params.state / 4u;
    let at = row * words + min(n + LANES * vec4(0u, 1u, 2u, 3u), vec4(words - 1u));
    return vec4(codes[at.x], codes[at.y], codes[at.z], codes[at.w]);
}

fn times_c(word: u32, n: u32) -> f32 {
    if n >= params.state / 4u {
        return 0.0;
    }
    let at = 4u * n;
    return dot(vec4<f32>(codes8(word)), vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]));
}

// The part of four such words in codes times the turned C.
fn part_of(words: vec4<u32>, n: u32) -> f32 {
    let near = times_c(words.x, n) + times_c(words.y, n + LANES);
    return near + times_c(words.z, n + 2u * LANES) + times_c(words.w, n + 3u * LANES);
}

// The thread's part of y of a row of the sequence whose rows begin at `rows`: of the stored state, whose first words are
// `near`, and of recent tokens, `x` of the first of them.
fn row_part(rows: u32, row: u32, lane: u32, near: vec4<u32>, x: f32, last: u32, factor: f32) -> f32 {
    var stored = part_of(near, lane);
    for (var n = lane + 4u * LANES; n < params.state / 4u; n += 4u * LANES) {
        stored += part_of(fetch_codes(rows + row, n), n);
    }
    var since = select(0.0, weights[min(lane, 63u)] * x, lane < last);
    for (var j = lane + LANES; j < last; j += LANES) {
        since += weights[j] * recent_x(j, row);
    }
    return stored * factor * scales[rows + row] + since;
}

// What a row's threads found together becomes y; the token's x is kept.
fn finish(rows: u32, row: u32, sum: f32, skip: f32, step: f32, x: f32, last: u32) {
    y[rows + row] = sum + skip * x;
    recent[recent_row(last) + params.heads + row] = step * x;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.head_dim + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let sequence = item / (tiles * params.heads);
    if sequence >= params.sequences {
        return;
    }
    let head = item / tiles % params.heads;
    let p = item % tiles * TILE + thread / LANES;
    let lane = thread % LANES;
    let d_inner = params.heads * params.head_dim;
    let in_group = head / (params.heads / params.groups) * params.state;
    let input = sequence * (d_inner + 2u * params.groups * params.state);
    let b_at = input + d_inner + in_group;
    let c_at = b_at + params.groups * params.state;
    let last = min(clock[1], params.window - 1u); // the new token's place
    start_recent(sequence);

    // Rows beyond the head's are its last, and give nothing.
    let row0 = head * params.head_dim + min(p, params.head_dim - 1u);
    let row1 = head * params.head_dim + min(p + ROWS, params.head_dim - 1u);
    let first_row = sequence * d_inner;
    let near0 = fetch_codes(first_row + row0, lane);
    let near1 = fetch_codes(first_row + row1, lane);
    let early = min(lane, params.window - 1u); // of those that are not recent nothing is used
    let x0 = recent_x(early, row0);
    let x1 = recent_x(early, row1);

    let raw = dt_raw[sequence * params.stride + params.offset + head] + per_head[head];
    let step = clamp(softplus(raw), params.dt_min, params.dt_max);
    var now = -exp(per_head[params.heads + head]) * step;
    if last > 0u {
        now += recent_log(last - 1u, head);
    }
    for (var n = thread; n < params.state; n += WG) {
        let c = xbc[c_at + n];
        plain_c[n] = c;
        line[n] = sign_at(n, params.block) * c;
    }
    transform_line(params.state, params.block, thread);

    // What each token's x weighs in y.
    for (var j0 = 0u; j0 <= last; j0 += WG / LANES) {
        let j = j0 + thread / LANES;
        var sum = 0.0;
        if j <= last {
            for (var n = lane; n < params.state; n += LANES) {
                if j == last {
                    sum += xbc[b_at + n] * plain_c[n];
                } else {
                    sum += recent_b(j, in_group + n) * plain_c[n];
                }
            }
        }
        sum = lanes_sum(vec2(sum), thread).x;
        if lane == 0u && j <= last {
            if j == last {
                weights[j] = step * sum;
            } else {
                weights[j] = exp(now - recent_log(j, head)) * sum;
            }
        }
    }
    workgroupBarrier();

    let decay = exp(now) / sqrt(f32(params.block));
    let part0 = row_part(first_row, row0, lane, near0, x0, last, decay);
    let part1 = row_part(first_row, row1, lane, near1, x1, last, decay);
    let sum = lanes_sum(vec2(part0, part1), thread);
    let skip = weights[last] + per_head[2u * params.heads + head];
    if lane == 0u && p < params.head_dim {
        finish(first_row, row0, sum.x, skip, step, xbc[input + row0], last);
    }
    if lane == 0u && p + ROWS < params.head_dim {
        finish(first_row, row1, sum.y, skip, step, xbc[input + row1], last);
    }

    // Nobody reads the new token's place before the next launch.
    if item % tiles == 0u {
        if thread == 0u {
            recent[recent_row(last) + head] = now;
        }
        if head % (params.heads / params.groups) == 0u {
            for (var n = thread; n < params.state; n += WG) {
                recent[recent_row(last) + params.heads + d_inner + in_group + n] = xbc[b_at + n];
            }
        }
    }
}
