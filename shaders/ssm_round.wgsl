// The stored form (ssm_store) of what a stored state and the tokens since are together (ssm_load), without a detour by f32 states
// in memory: rounding is of turned rows, and turned the sum is v = sqrt(block) exp(L) scale (codes + errors / 14) +
// sum over j of exp(L - L_j) x_j H D B_j. Formats as ssm_store's. The recent tokens stay where they are: the caller's clock says
// how many there are. One workgroup: 32 rows (head, p) of one head of a sequence; 8 threads share a row, in pairs of words.
#import fwht
#import hash
#import index
#import pack
#import recent

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
}

const WG = 256u;
const LINES = 1u;
const LANES = 8u;
const ROWS = 32u;
const SMALLEST = 1e-35; // below, scale or its inverse would leave the range of normal floats

@group(0) @binding(0) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(1) var<storage, read> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [sequences * heads * head_dim, state] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(4) var<storage, read_write> errors: array<u32>; // [sequences * heads * head_dim, state] int4; else untouched
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> tops: array<f32, WG>;

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

// Adds x times the turned B in the line.
fn added(to: Pair, pair: u32, x: f32) -> Pair {
    let at = min(8u * pair, LINE - 8u);
    let low = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
    return Pair(to.low + x * low, to.high + x * vec4(line[at + 4u], line[at + 5u], line[at + 6u], line[at + 7u]));
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

fn rounded(v: vec4<f32>, i: u32) -> vec4<f32> {
#ifdef stochastic
    let bits = vec4(hash(i), hash(i + 1u), hash(i + 2u), hash(i + 3u)) >> vec4(8u);
    return floor(v + vec4<f32>(bits) / 16777216.0);
#else
    return round(v);
#endif
}

fn lost_of(v: vec4<f32>, code: vec4<f32>) -> u32 {
    return pack4xI8(vec4<i32>(round((v - code) * 14.0)));
}

fn word_of(code: vec4<f32>) -> u32 {
    return pack4xI8(vec4<i32>(clamp(code, vec4(-127.0), vec4(127.0))));
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
    let b_at = head / (params.heads / params.groups) * params.state;
    let p = item % tiles * ROWS + thread / LANES;
    let lane = thread % LANES;
    let own = head * params.head_dim + min(p, params.head_dim - 1u);
    let row = sequence * params.heads * params.head_dim + own;
    let tokens = min(clock[1], params.window);
    start_recent(sequence);
    var now = 0.0;
    if tokens > 0u {
        now = recent_log(tokens - 1u, head);
    }
    let factor = scales[row] * exp(now) * sqrt(f32(params.block));
    var v0 = scaled(stored(row, lane), factor);
    var v1 = scaled(stored(row, lane + LANES), factor);
    var v2 = scaled(stored(row, lane + 2u * LANES), factor);
    var v3 = scaled(stored(row, lane + 3u * LANES), factor);
    for (var j = 0u; j < tokens; j++) {
        let x = exp(now - recent_log(j, head)) * recent_x(j, own);
        workgroupBarrier(); // the last token's line may still be read
        for (var n = thread; n < params.state; n += WG) {
            line[n] = sign_at(n, params.block) * recent_b(j, b_at + n);
        }
        transform_line(params.state, params.block, thread);
        v0 = added(v0, lane, x);
        v1 = added(v1, lane + LANES, x);
        v2 = added(v2, lane + 2u * LANES, x);
        v3 = added(v3, lane + 3u * LANES, x);
    }
    v0 = inside(v0, lane);
    v1 = inside(v1, lane + LANES);
    v2 = inside(v2, lane + 2u * LANES);
    v3 = inside(v3, lane + 3u * LANES);
    tops[thread] = max(max(top(v0), top(v1)), max(top(v2), top(v3)));
    workgroupBarrier();
    let first = thread / LANES * LANES;
    var largest = 0.0;
    for (var i = 0u; i < LANES; i++) {
        largest = max(largest, tops[first + i]);
    }
    if p >= params.head_dim {
        return;
    }
    let tiny = largest < SMALLEST;
    let inverse = select(127.0 / largest, 0.0, tiny);
    let key = hash(clock[0] + hash(params.seed));
    store(row, lane, v0, inverse, key);
    store(row, lane + LANES, v1, inverse, key);
    store(row, lane + 2u * LANES, v2, inverse, key);
    store(row, lane + 3u * LANES, v3, inverse, key);
    if lane == 0u {
        // A multiplication, as in quantize_tokens.
        scales[row] = select(largest * (1.0 / 127.0) / sqrt(f32(params.block)), 1.0, tiny);
    }
}
