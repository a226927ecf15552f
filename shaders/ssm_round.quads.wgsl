// ssm_round.wgsl for states of whole 16 elements, up to 128. 64 rows at a time, two a thread: what is loaded of both is under way
// before either is waited for. 8 threads share a row, of 16 elements each, and make the factors of its recent tokens' B, one each.
#import fwht
#import heads
#import index
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
const APART = WG / LANES; // rows from a thread's first to its second
const ROWS = 2u * APART; // at a time
const QUADS = 32u; // of a line of 128 elements

@group(0) @binding(0) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(1) var<storage, read> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(2) var<storage, read_write> codes: array<vec4<u32>>; // [sequences * heads * head_dim, state] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(4) var<storage, read_write> errors: array<vec2<u32>>; // [sequences * heads * head_dim, state] int4; else untouched
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> turned: array<vec4<f32>, LINES * QUADS>; // [token, quad of a thread, thread of a row]
var<workgroup> factors: array<f32, ROWS * LINES>; // [row, token]
var<workgroup> largests: array<f32, ROWS * LANES>; // [row, thread]

// Where a row's state and recent tokens are.
struct Row {
    at: u32, // among all sequences' rows
    own: u32, // among the sequence's
    head: u32,
}

// What a thread loads of a row.
struct Stored {
    codes: vec4<u32>,
    lost: vec2<u32>,
    scale: f32,
    now: f32, // the last token's sum of dt A
}

fn row_of(mine: Heads, place: u32) -> Row {
    let number = min(place, params.each * params.head_dim - 1u);
    let own = mine.first * params.head_dim + number;
    return Row(mine.sequence * params.heads * params.head_dim + own, own, mine.first + number / params.head_dim);
}

// The 16 elements of a thread; one beyond the state does the same as the last.
fn held_by(lane: u32) -> u32 {
    return min(lane, params.state / 16u - 1u);
}

fn quad_of(row: Row, lane: u32) -> u32 {
    return row.at * (params.state / 16u) + held_by(lane);
}

fn fetch(row: Row, lane: u32, tokens: u32) -> Stored {
    let at = quad_of(row, lane);
    let log = recent_log(max(tokens, 1u) - 1u, row.head);
    let lost = errors[select(0u, at, params.feedback > 0u)];
    return Stored(codes[at], lost & vec2(select(0u, 0xffffffffu, params.feedback > 0u)), scales[row.at], select(0.0, log, tokens > 0u));
}

// Four codes and 16 times what their rounding lost, in 14ths, as 224ths of their sum: whole numbers, so that a half, where rounding turns
// either way, is one, and a conversion less, of which an H100 does a quarter as many as sums.
fn four(word: u32, lost: u32) -> vec4<f32> {
    return vec4<f32>(224 * codes8(word) + unpack4xI8(lost));
}

fn values_of(stored: Stored) -> mat4x4<f32> {
    let factor = stored.scale * exp(stored.now) * sqrt(f32(params.block)) / 224.0;
    let a = four(stored.codes.x, low4_times_16(stored.lost.x));
    let b = four(stored.codes.y, high4_times_16(stored.lost.x));
    let c = four(stored.codes.z, low4_times_16(stored.lost.y));
    let d = four(stored.codes.w, high4_times_16(stored.lost.y));
    return factor * mat4x4(a, b, c, d);
}

// What a row's B of the thread's own token of `count` from `first` on is multiplied with.
fn factor_of(row: Row, now: f32, first: u32, count: u32, lane: u32) -> f32 {
    let token = first + min(lane, count - 1u);
    return exp(now - recent_log(token, row.head)) * recent_x(token, row.own);
}

// The turned B of `count` tokens from the first, at most LINES.
fn turn(first: u32, count: u32, b_at: u32, thread: u32) {
    for (var n = thread; n < count * params.state; n += WG) {
        let i = n % params.state;
        line[n] = sign_at(i, params.block) * recent_b(first + n / params.state, b_at + i);
    }
    transform_line(count * params.state, params.block, thread);
    let words = params.state / 4u;
    for (var n = thread; n < count * words; n += WG) {
        let word = n % words;
        let at = 4u * n;
        turned[QUADS * (n / words) + word % 4u * LANES + word / 4u] = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
    }
}

// Adds x times the turned B of a token at hand to a thread's elements.
fn added(v: mat4x4<f32>, token: u32, x: f32, lane: u32) -> mat4x4<f32> {
    let at = QUADS * token + held_by(lane);
    return v + x * mat4x4(turned[at], turned[at + LANES], turned[at + 2u * LANES], turned[at + 3u * LANES]);
}

fn top(m: mat4x4<f32>) -> f32 {
    let both = max(max(abs(m[0]), abs(m[1])), max(abs(m[2]), abs(m[3])));
    return max(max(both.x, both.y), max(both.z, both.w));
}

fn largest_of(row: u32) -> f32 {
    var largest = 0.0;
    for (var i = 0u; i < LANES; i++) {
        largest = max(largest, largests[row * LANES + i]);
    }
    return largest;
}

// Four codes and, packed like them, what they lose, in 14ths.
struct Coded {
    word: u32,
    lost: u32,
}

// Elements from `i` on, at most 127 but for a rounding. 1.5 * 2^23 + v has the nearest code in its last bits, and so has 14 times v; of their
// difference, the code 14 times, four bits are kept, where -14 is 2. No conversions, of which an H100 does a quarter as many as sums.
fn coded(v: vec4<f32>, i: u32) -> Coded {
#ifdef quads_stochastic
    let code = rounded(v, i);
    return Coded(word_of(code), lost_of(v, code));
#else
    let near = bitcast<vec4<u32>>(v + vec4(12582912.0));
    let parts = bitcast<vec4<u32>>(14.0 * v + vec4(12582912.0));
    return Coded(last_bytes(near), last_bytes(parts + 2u * near));
#endif
}

fn store(row: Row, lane: u32, v: mat4x4<f32>, largest: f32, key: u32) {
    let tiny = largest < SMALLEST;
    let inverse = select(127.0 / largest, 0.0, tiny);
    if 16u * lane < params.state {
        let i = row.at * params.state + 16u * lane + key;
        let m = v * inverse;
        let a = coded(m[0], i);
        let b = coded(m[1], i + 4u);
        let c = coded(m[2], i + 8u);
        let d = coded(m[3], i + 12u);
        let at = quad_of(row, lane);
        codes[at] = vec4(a.word, b.word, c.word, d.word);
        if params.feedback > 0u {
            errors[at] = vec2(pack_nibbles(a.lost, b.lost), pack_nibbles(c.lost, d.lost));
        }
    }
    if lane == 0u {
        // A multiplication, as in quantize_tokens.
        scales[row.at] = select(largest * (1.0 / 127.0) / sqrt(f32(params.block)), 1.0, tiny);
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
    let end = params.each * params.head_dim;
    let tokens = min(clock[1], params.window);
    let key = hash(clock[0] + hash(params.seed));
    start_recent(mine.sequence);
    let few = tokens <= LINES; // all tokens' B fit, so they are turned once
    if few {
        turn(0u, tokens, mine.in_group, thread);
    }
    let lane = thread % LANES;
    let slot = thread / LANES;
    for (var row0 = 0u; row0 < end; row0 += ROWS) {
        let a = row_of(mine, row0 + slot);
        let b = row_of(mine, row0 + slot + APART);
        let stored_a = fetch(a, lane, tokens);
        let stored_b = fetch(b, lane, tokens);
        var v = values_of(stored_a);
        var w = values_of(stored_b);
        for (var j0 = 0u; j0 < tokens; j0 += LINES) {
            let count = min(tokens - j0, LINES);
            let factor_a = factor_of(a, stored_a.now, j0, count, lane);
            let factor_b = factor_of(b, stored_b.now, j0, count, lane);
            workgroupBarrier(); // the last ones may still be read
            if !few {
                turn(j0, count, mine.in_group, thread);
            }
            factors[slot * LINES + lane] = factor_a;
            factors[(slot + APART) * LINES + lane] = factor_b;
            workgroupBarrier(); // for who reads them
            for (var j = 0u; j < count; j++) {
                v = added(v, j, factors[slot * LINES + j], lane);
                w = added(w, j, factors[(slot + APART) * LINES + j], lane);
            }
        }
        workgroupBarrier(); // the last rows' may still be read
        largests[slot * LANES + lane] = top(v);
        largests[(slot + APART) * LANES + lane] = top(w);
        workgroupBarrier();
        if row0 + slot < end {
            store(a, lane, v, largest_of(slot), key);
        }
        if row0 + slot + APART < end {
            store(b, lane, w, largest_of(slot + APART), key);
        }
    }
}
