// Attention of few rows, as in decoding, up to a division: the keys of a sequence are divided among workgroups
// (Dao et al. 2023, "Flash-Decoding"), of which each gives its sums of exp(score - peak) v, its peak and its sum of
// exponentials; attention_merge.wgsl makes the result. Rows are (token, query head of the kv head), as in attention.wgsl.
// One workgroup: 4 rows of one kv head, a run of keys (shared/splits.wgsl), 64 a step. For scores 4 threads share a key, by
// 16-byte loads; for values a thread has a column of vec4s and every `teams`th key. Loads of values are under way while
// scores are made: one token waits for memory more than for arithmetic. No subgroups: a step has four barriers and no
// tree, and what subgroups would save is one of them.
// Formats: caches of f32 (`quads`, head_dim a multiple of 4), of f16 (`half`, of 8), `int8` (of 16) and `int4` (of 32;
// shared/kv_codes.wgsl).
#import index
#import splits
#ifdef int8 int4
#import kv_codes
#import pack
#endif
#import kv_values

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
    splits: u32, // workgroups that share a sequence's keys
    q_offset: u32, // first column of q, a multiple of 4
    q_stride: u32, // columns of the tensor q is in, likewise
    scale: f32,
}

const WG = 256u;
const ROWS = 4u;
const KEYS = 64u; // of a step
const LANES = 4u; // threads of a key
const MAX_QUADS = 64u;
const LOWEST = -1e30; // below every score

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>; // [sequences * tokens, q_stride]
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#ifdef quads
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef half
@group(0) @binding(2) var<storage, read> v_cache: array<vec2<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef int8 int4
@group(0) @binding(2) var<storage, read> v_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
@group(0) @binding(3) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> parts: array<vec4<f32>>; // [sequences * tokens * heads * splits, head_dim]
@group(0) @binding(5) var<storage, read_write> stats: array<vec2<f32>>; // [sequences * tokens * heads * splits, 2] peak and sum
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> queries: array<vec4<f32>, ROWS * MAX_QUADS>; // [row, head_dim / 4], scaled
var<workgroup> sums: array<vec4<f32>, 2u * WG>; // of each thread: scores of the rows, at the end two rows' columns
var<workgroup> weights: array<vec4<f32>, KEYS>; // of the rows: scores, then their exponentials
var<workgroup> eighths: array<vec4<f32>, 8>; // of the rows: peaks, at the end sums

fn quads() -> u32 {
    return params.head_dim / 4u;
}

// Quad i of the rows' queries times one of a key.
fn times_queries(key: vec4<f32>, i: u32) -> vec4<f32> {
    let n = quads();
    return vec4(
        dot(key, queries[i]), dot(key, queries[n + i]), dot(key, queries[2u * n + i]), dot(key, queries[3u * n + i]));
}

// Of 16 bytes of a key's row, its unit i, with all rows' queries.
#ifdef quads
fn units() -> u32 {
    return quads();
}
fn scores(row: u32, i: u32, unit: vec4<u32>) -> vec4<f32> {
    return times_queries(bitcast<vec4<f32>>(unit), i);
}
#endif
#ifdef half
fn units() -> u32 {
    return params.head_dim / 8u;
}
fn scores(row: u32, i: u32, unit: vec4<u32>) -> vec4<f32> {
    return times_queries(vec4(unpack2x16float(unit.x), unpack2x16float(unit.y)), 2u * i)
        + times_queries(vec4(unpack2x16float(unit.z), unpack2x16float(unit.w)), 2u * i + 1u);
}
#endif
#ifdef int8 int4
// f32 number `at` of the cache's words.
fn key_scale(at: u32) -> f32 {
    return bitcast<f32>(k_cache[at / 4u][at % 4u]);
}
#endif
#ifdef int8
fn units() -> u32 {
    return params.head_dim / 16u;
}
fn scores(row: u32, i: u32, unit: vec4<u32>) -> vec4<f32> {
    var sum = times_queries(vec4<f32>(codes8(unit.x)), 4u * i);
    sum += times_queries(vec4<f32>(codes8(unit.y)), 4u * i + 1u);
    sum += times_queries(vec4<f32>(codes8(unit.z)), 4u * i + 2u);
    sum += times_queries(vec4<f32>(codes8(unit.w)), 4u * i + 3u);
    return key_scale(scale_at(row, 4u * i)) * sum;
}
#endif
#ifdef int4
fn units() -> u32 {
    return params.head_dim / 32u;
}
fn word_scores(word: u32, i: u32) -> vec4<f32> {
    return times_queries(vec4<f32>(codes8(low4_times_16(word))), i)
        + times_queries(vec4<f32>(codes8(high4_times_16(word))), i + 1u);
}
fn scores(row: u32, i: u32, unit: vec4<u32>) -> vec4<f32> {
    let sum = word_scores(unit.x, 8u * i) + word_scores(unit.y, 8u * i + 2u) + word_scores(unit.z, 8u * i + 4u)
        + word_scores(unit.w, 8u * i + 6u);
    return key_scale(scale_at(row, 4u * i)) * 0.0625 * sum;
}
#endif

// This lane's part of a key's scores.
fn key_scores(row: u32, lane: u32) -> vec4<f32> {
    let n = units();
    var sum = vec4(0.0);
    for (var i = lane; i < n; i += 4u * LANES) {
        let at = row * n + min(i + LANES * vec4(0u, 1u, 2u, 3u), vec4(n - 1u));
        let a = k_cache[at.x];
        let b = k_cache[at.y];
        let c = k_cache[at.z];
        let d = k_cache[at.w];
        sum += scores(row, i, a);
        if i + LANES < n {
            sum += scores(row, i + LANES, b);
        }
        if i + 2u * LANES < n {
            sum += scores(row, i + 2u * LANES, c);
        }
        if i + 3u * LANES < n {
            sum += scores(row, i + 3u * LANES, d);
        }
    }
    return sum;
}

// First vec4 of q of a row of the sequence.
fn q_place(row: u32, sequence: u32, kv: u32) -> u32 {
    let repeats = params.heads / params.kv_heads;
    let token = sequence * params.tokens + row / repeats;
    return (params.q_offset + token * params.q_stride) / 4u + (kv * repeats + row % repeats) * quads();
}

// Row of the results of a row of the sequence.
fn out_row(row: u32, sequence: u32, kv: u32) -> u32 {
    let repeats = params.heads / params.kv_heads;
    return (sequence * params.tokens + row / repeats) * params.heads + kv * repeats + row % repeats;
}

// Values of keys n, n + teams, .. of the step from row `first` on, none beyond row `last`.
fn fetch(first: u32, n: u32, teams: u32, last: u32, kv: u32, column: u32) -> mat4x4<f32> {
    let at = min(first + n + teams * vec4(0u, 1u, 2u, 3u), vec4(last)) * params.kv_heads + kv;
    return mat4x4(v4(at.x, column), v4(at.y, column), v4(at.z, column), v4(at.w, column));
}

// The rows' weights of keys n, n + teams, ..; none beyond the step.
fn weights4(n: u32, teams: u32) -> mat4x4<f32> {
    let at = n + teams * vec4(0u, 1u, 2u, 3u);
    let i = min(at, vec4(KEYS - 1u));
    let there = select(vec4(0.0), vec4(1.0), at < vec4(KEYS));
    return mat4x4(
        weights[i.x] * there.x, weights[i.y] * there.y, weights[i.z] * there.z, weights[i.w] * there.w);
}

// Largest of the step's scores and of before.
fn step_peak(before: vec4<f32>) -> vec4<f32> {
    let low = max(max(eighths[0], eighths[1]), max(eighths[2], eighths[3]));
    let high = max(max(eighths[4], eighths[5]), max(eighths[6], eighths[7]));
    return max(before, max(low, high));
}

// Adds up the teams' columns of rows 2 pair and 2 pair + 1, and stores them. Barriers are around the call.
fn put_columns(pair: u32, thread: u32, teams: u32, row0: u32, rows: u32, sequence: u32, kv: u32, split: u32) {
    let column = thread % (WG / 2u);
    let local = 2u * pair + thread / (WG / 2u);
    if column >= quads() || row0 + local >= rows {
        return;
    }
    var sum = vec4(0.0);
    for (var team = 0u; team < teams; team++) {
        sum += sums[thread / (WG / 2u) * WG + team * quads() + column];
    }
    let at = out_row(row0 + local, sequence, kv) * params.splits + split;
    parts[at * quads() + column] = sum;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let repeats = params.heads / params.kv_heads;
    let rows = params.tokens * repeats;
    let blocks = (rows + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let row0 = item % blocks * ROWS;
    item /= blocks;
    let split = item % params.splits;
    item /= params.splits;
    let kv = item % params.kv_heads;
    let sequence = item / params.kv_heads;
    if sequence >= params.sequences {
        return;
    }
    let before = cursor[sequence];
    let keys = min(before + params.tokens, params.max);
    let share = share_of(keys, params.splits);
    if split * share >= keys {
        return;
    }
    // Rows of the cache: this workgroup's, and the last that each row of q sees.
    let cache = sequence * params.max;
    let begin = cache + split * share;
    let stop = cache + min((split + 1u) * share, keys);
    let own = before + min(row0 + vec4(0u, 1u, 2u, 3u), vec4(rows - 1u)) / repeats;
    let limits = cache + min(own, vec4(params.max - 1u));

    for (var i = thread; i < ROWS * quads(); i += WG) {
        let row = min(row0 + i / quads(), rows - 1u);
        queries[i] = params.scale * q[q_place(row, sequence, kv) + i % quads()];
    }
    let teams = WG / quads();
    let team = thread / quads(); // `teams` where a thread is one too many: its keys count for nothing
    let column = thread % quads();
    var peak = vec4(LOWEST);
    var total = vec4(0.0); // of this thread's keys
    var o = mat4x4<f32>(); // columns are rows of q
    workgroupBarrier();
    for (var key0 = begin; key0 < stop; key0 += KEYS) {
        let low = fetch(key0, team, teams, stop - 1u, kv, column);
        var high = mat4x4<f32>();
        if 4u * teams < KEYS {
            high = fetch(key0, team + 4u * teams, teams, stop - 1u, kv, column);
        }
        let key = min(key0 + thread / LANES, stop - 1u);
        sums[thread] = key_scores(key * params.kv_heads + kv, thread % LANES);
        workgroupBarrier();
        var score = vec4(LOWEST);
        if thread < KEYS {
            let at = LANES * thread;
            let sum = sums[at] + sums[at + 1u] + sums[at + 2u] + sums[at + 3u];
            score = select(vec4(LOWEST), sum, vec4(key0 + thread) <= min(limits, vec4(stop - 1u)));
            weights[thread] = score;
        }
        workgroupBarrier();
        if thread < 8u {
            var top = weights[thread];
            for (var i = thread + 8u; i < KEYS; i += 8u) {
                top = max(top, weights[i]);
            }
            eighths[thread] = top;
        }
        workgroupBarrier();
        let new_peak = step_peak(peak);
        let factor = exp(peak - new_peak);
        peak = new_peak;
        if thread < KEYS {
            // A minimum would make 0 of a NaN, and of its weight 1.
            let less = select(score - peak, vec4(0.0), score > peak);
            let weight = select(exp(less), vec4(0.0), score == vec4(LOWEST));
            weights[thread] = weight;
            total = total * factor + weight;
        }
        workgroupBarrier();
        o = mat4x4(o[0] * factor.x, o[1] * factor.y, o[2] * factor.z, o[3] * factor.w);
        o += low * transpose(weights4(team, teams));
        o += high * transpose(weights4(team + 4u * teams, teams));
        // Only heads of more than 128 elements have more keys a team.
        for (var n = team + 8u * teams; n < KEYS; n += 4u * teams) {
            o += fetch(key0, n, teams, stop - 1u, kv, column) * transpose(weights4(n, teams));
        }
    }
    workgroupBarrier();
    sums[thread] = o[0];
    sums[WG + thread] = o[1];
    if thread < KEYS {
        weights[thread] = total;
    }
    workgroupBarrier();
    put_columns(0u, thread, teams, row0, rows, sequence, kv, split);
    if thread < 8u {
        var sum = weights[thread];
        for (var i = thread + 8u; i < KEYS; i += 8u) {
            sum += weights[i];
        }
        eighths[thread] = sum;
    }
    workgroupBarrier();
    sums[thread] = o[2];
    sums[WG + thread] = o[3];
    workgroupBarrier();
    put_columns(1u, thread, teams, row0, rows, sequence, kv, split);
    if thread < ROWS && row0 + thread < rows {
        var sum = vec4(0.0);
        for (var i = 0u; i < 8u; i++) {
            sum += eighths[i];
        }
        stats[out_row(row0 + thread, sequence, kv) * params.splits + split] = vec2(peak[thread], sum[thread]);
    }
}
