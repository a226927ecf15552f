// One token of each sequence of the recurrence (selective_state_update) on a stored state (ssm_load): with S the rounded state,
// y = exp(L) S C + sum over j of exp(L - L_j) (B_j . C) x_j + D x over the recent tokens j, the new one included, which
// is appended to them. What is stored is H D S (shared/fwht.wgsl): S C = (H D S)(H D C). So y is exact but for the last rounding of S.
// One workgroup: 64 rows (head, p) of one head of a sequence, half of them at a time; 8 threads share a row's state elements,
// 32 a token's dot of B and C. All that comes from far is on its way before anything is waited for.
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
const TOKENS = WG / 32u; // dots at a time

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
var<workgroup> parts: array<f32, 64>;
var<workgroup> plain_c: array<f32, LINE>;
var<workgroup> turned_c: array<vec4<f32>, LINE / 4u>;
var<workgroup> weights: array<f32, 64>; // of recent tokens' x in y

// Elements n, n + 32, n + 64 and n + 96 of the new token's B, which begins at `at`, or of a recent one's.
fn new_b(at: u32, n: u32) -> vec4<f32> {
    let i = at + min(n + 32u * vec4(0u, 1u, 2u, 3u), vec4(params.state - 1u));
    return vec4(xbc[i.x], xbc[i.y], xbc[i.z], xbc[i.w]);
}

fn old_b(j: u32, at: u32, n: u32) -> vec4<f32> {
    let i = at + min(n + 32u * vec4(0u, 1u, 2u, 3u), vec4(params.state - 1u));
    return vec4(recent_b(j, i.x), recent_b(j, i.y), recent_b(j, i.z), recent_b(j, i.w));
}

// Such elements times those of C.
fn with_c(b: vec4<f32>, n: u32) -> f32 {
    let i = n + 32u * vec4(0u, 1u, 2u, 3u);
    let at = min(i, vec4(params.state - 1u));
    let c = vec4(plain_c[at.x], plain_c[at.y], plain_c[at.z], plain_c[at.w]);
    return dot(select(vec4(0.0), b, i < vec4(params.state)), c);
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
    return dot(vec4<f32>(codes8(word)), turned_c[n]);
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
    return stored * factor + since;
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
    let scale = vec2(scales[first_row + row0], scales[first_row + row1]);
    let x = vec2(xbc[input + row0], xbc[input + row1]);
    let early = min(lane, params.window - 1u); // of those that are not recent nothing is used
    let x0 = recent_x(early, row0);
    let x1 = recent_x(early, row1);
    let token = thread / 32u;
    let n0 = thread % 32u;
    let known = min(token, params.window - 1u);
    let new_low = new_b(b_at, n0);
    let old_low = old_b(known, in_group, n0);
    var new_high = vec4(0.0);
    var old_high = vec4(0.0);
    if params.state > 128u {
        new_high = new_b(b_at, n0 + 128u);
        old_high = old_b(known, in_group, n0 + 128u);
    }
    let known_log = recent_log(known, head);

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
    if thread < params.state / 4u {
        let at = 4u * thread;
        turned_c[thread] = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
    }

    // What each token's x weighs in y.
    for (var j0 = 0u; j0 <= last; j0 += TOKENS) {
        let j = j0 + token;
        var low = old_low;
        var high = old_high;
        var log = known_log;
        if j0 > 0u {
            let place = min(j, params.window - 1u);
            low = old_b(place, in_group, n0);
            high = old_b(place, in_group, n0 + 128u);
            log = recent_log(place, head);
        }
        low = select(low, new_low, j == last);
        high = select(high, new_high, j == last);
        workgroupBarrier(); // the last tokens' parts may still be read
        sums[thread].x = with_c(low, n0) + with_c(high, n0 + 128u);
        workgroupBarrier();
        if thread < 64u {
            let at = 4u * thread;
            parts[thread] = (sums[at].x + sums[at + 1u].x) + (sums[at + 2u].x + sums[at + 3u].x);
        }
        workgroupBarrier();
        if n0 == 0u && j <= last {
            var sum = 0.0;
            for (var i = 0u; i < 8u; i++) {
                sum += parts[8u * token + i];
            }
            weights[j] = select(exp(now - log), step, j == last) * sum;
        }
    }
    workgroupBarrier();

    let decay = exp(now) / sqrt(f32(params.block)) * scale;
    let part0 = row_part(first_row, row0, lane, near0, x0, last, decay.x);
    let part1 = row_part(first_row, row1, lane, near1, x1, last, decay.y);
    sums[thread] = vec2(part0, part1);
    workgroupBarrier();
    if lane == 0u {
        var sum = vec2(0.0);
        for (var i = 0u; i < LANES; i++) {
            sum += sums[thread + i];
        }
        sum += (weights[last] + per_head[2u * params.heads + head]) * x;
        if p < params.head_dim {
            y[first_row + row0] = sum.x;
            recent[recent_row(last) + params.heads + row0] = step * x.x;
        }
        if p + ROWS < params.head_dim {
            y[first_row + row1] = sum.y;
            recent[recent_row(last) + params.heads + row1] = step * x.y;
        }
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
