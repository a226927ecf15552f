// The stored form (ssm_store) of what a stored state and the tokens since are together (ssm_load), without a detour by f32 states
// in memory: rounding is of turned rows, and turned the sum is v = sqrt(block) exp(L) scale (codes + errors / 14) +
// sum over j of exp(L - L_j) x_j H D B_j. Formats as ssm_store's. The recent tokens stay where they are: the caller's clock says
// how many there are. One workgroup: rows (head, p) of `each` heads of one group of a sequence, 32 at a time, which share the turned
// B of 8 tokens at a time; 8 threads share a row, in pairs of words.
#import fwht
#import hash
#import heads
#import index
#import pack
#import recent
#import rounded

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most 256
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens
    sequences: u32,
    seed: u32,
    feedback: u32, // 1 to add and to keep errors
    each: u32, // heads of a workgroup, which divides those of a group
}

const WG = 256u;
const LINES = 8u; // tokens at a time
const LANES = 8u;
const ROWS = 32u; // at a time
const PAIRS = LINE / 8u; // of a line

@group(0) @binding(0) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(1) var<storage, read> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [sequences * heads * head_dim, state] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(4) var<storage, read_write> errors: array<u32>; // [sequences * heads * head_dim, state] int4; else untouched
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> turned: array<vec4<f32>, LINES * LINE / 4u>; // [token, half of a pair, pair]

// Two words' elements of a row.
struct Pair {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Pair `pair` of a row as it was stored; zeros beyond the last word.
fn stored(row: u32, pair: u32) -> Pair {
    let words = params.state / 4u;
    var lost = 0u;
    if params.feedback > 0u && 2u * pair < words {
        lost = errors[row * ((words + 1u) / 2u) + pair];
    }
    var got = Pair();
    if 2u * pair < words {
        got.low = vec4<f32>(codes8(codes[row * words + 2u * pair])) + vec4<f32>(codes4_low(lost)) / 14.0;
    }
    if 2u * pair + 1u < words {
        got.high = vec4<f32>(codes8(codes[row * words + 2u * pair + 1u])) + vec4<f32>(codes4_high(lost)) / 14.0;
    }
    return got;
}

fn scaled(pair: Pair, by: f32) -> Pair {
    return Pair(pair.low * by, pair.high * by);
}

// Adds x times the turned B of a token at hand.
fn added(to: Pair, pair: u32, token: u32, x: f32) -> Pair {
    let at = 2u * PAIRS * token + pair;
    return Pair(to.low + x * turned[at], to.high + x * turned[at + PAIRS]);
}

// The turned B of `count` tokens from the first, at most LINES.
fn turn(first: u32, count: u32, b_at: u32, thread: u32) {
    workgroupBarrier(); // the last ones may still be read
    for (var n = thread; n < count * params.state; n += WG) {
        let i = n % params.state;
        line[n] = sign_at(i, params.block) * recent_b(first + n / params.state, b_at + i);
    }
    transform_line(count * params.state, params.block, thread);
    let words = params.state / 4u;
    for (var n = thread; n < count * words; n += WG) {
        let word = n % words;
        let at = 4u * n;
        turned[PAIRS * (n / words * 2u + word % 2u) + word / 2u] = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
    }
    workgroupBarrier(); // for who reads them
}

// Beyond the state nothing counts.
fn inside(pair: Pair, number: u32) -> Pair {
    let words = params.state / 4u;
    let low = select(vec4(0.0), pair.low, 2u * number < words);
    return Pair(low, select(vec4(0.0), pair.high, 2u * number + 1u < words));
}

fn top(pair: Pair) -> f32 {
    let both = max(abs(pair.low), abs(pair.high));
    return max(max(both.x, both.y), max(both.z, both.w));
}

fn store(row: u32, number: u32, pair: Pair, inverse: f32, key: u32) {
    let words = params.state / 4u;
    if 2u * number >= words {
        return;
    }
    let v = scaled(pair, inverse);
    let i = row * params.state + 8u * number + key;
    let low = rounded(v.low, i);
    let high = rounded(v.high, i + 4u);
    codes[row * words + 2u * number] = word_of(low);
    var lost = 0u;
    if 2u * number + 1u < words {
        codes[row * words + 2u * number + 1u] = word_of(high);
        lost = lost_of(v.high, high);
    }
    if params.feedback > 0u {
        errors[row * ((words + 1u) / 2u) + number] = pack_nibbles(lost_of(v.low, low), lost);
    }
}

// The thread's part of a row; rows beyond the end, which are not `inside`, only wait with the others.
fn round_row(row: u32, own: u32, head: u32, tokens: u32, few: bool, b_at: u32, inside_end: bool, thread: u32) {
    let lane = thread % LANES;
    let wide = params.state > 16u * LANES;
    var now = 0.0;
    if tokens > 0u {
        now = recent_log(tokens - 1u, head);
    }
    let factor = scales[row] * exp(now) * sqrt(f32(params.block));
    var v0 = scaled(stored(row, lane), factor);
    var v1 = scaled(stored(row, lane + LANES), factor);
    var v2 = Pair();
    var v3 = Pair();
    if wide {
        v2 = scaled(stored(row, lane + 2u * LANES), factor);
        v3 = scaled(stored(row, lane + 3u * LANES), factor);
    }
    for (var j0 = 0u; j0 < tokens; j0 += LINES) {
        let count = min(tokens - j0, LINES);
        if !few {
            turn(j0, count, b_at, thread);
        }
        for (var j = 0u; j < count; j++) {
            let x = exp(now - recent_log(j0 + j, head)) * recent_x(j0 + j, own);
            v0 = added(v0, lane, j, x);
            v1 = added(v1, lane + LANES, j, x);
            if wide {
                v2 = added(v2, lane + 2u * LANES, j, x);
                v3 = added(v3, lane + 3u * LANES, j, x);
            }
        }
    }
    v0 = inside(v0, lane);
    v1 = inside(v1, lane + LANES);
    v2 = inside(v2, lane + 2u * LANES);
    v3 = inside(v3, lane + 3u * LANES);
    workgroupBarrier(); // the last rows' may still be read
    // The line is of no more use: B is in `turned`.
    line[thread] = max(max(top(v0), top(v1)), max(top(v2), top(v3)));
    workgroupBarrier();
    let first = thread / LANES * LANES;
    var largest = 0.0;
    for (var i = 0u; i < LANES; i++) {
        largest = max(largest, line[first + i]);
    }
    if !inside_end {
        return;
    }
    let tiny = largest < SMALLEST;
    let inverse = select(127.0 / largest, 0.0, tiny);
    let key = hash(clock[0] + hash(params.seed));
    store(row, lane, v0, inverse, key);
    store(row, lane + LANES, v1, inverse, key);
    if wide {
        store(row, lane + 2u * LANES, v2, inverse, key);
        store(row, lane + 3u * LANES, v3, inverse, key);
    }
    if lane == 0u {
        // A multiplication, as in quantize_tokens.
        scales[row] = select(largest * (1.0 / 127.0) / sqrt(f32(params.block)), 1.0, tiny);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let mine = heads_of(linear_workgroup(workgroup, grid));
    if mine.sequence >= params.sequences {
        return;
    }
    let b_at = mine.in_group;
    let end = params.each * params.head_dim;
    let tokens = min(clock[1], params.window);
    start_recent(mine.sequence);
    let few = tokens <= LINES; // all tokens' B fit, so they are turned once
    if few {
        turn(0u, tokens, b_at, thread);
    }
    for (var row0 = 0u; row0 < end; row0 += ROWS) {
        let place = row0 + thread / LANES;
        let number = min(place, end - 1u);
        let head = mine.first + number / params.head_dim;
        let own = mine.first * params.head_dim + number;
        let row = mine.sequence * params.heads * params.head_dim + own;
        round_row(row, own, head, tokens, few, b_at, place < end, thread);
    }
}
