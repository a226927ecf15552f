// attention.wgsl on cooperative matrices, for heads of up to 128 elements, a multiple of 4, and f32 caches, each
// number as two f16 (shared/coop_pairs.wgsl); or f16 caches and multiples of 8, or int8 ones and multiples of 16: queries are two f16
// still, and weights one, of which the sum is also made. int8 keys are multiplied as codes, and their scales with scores; values
// become f16.
// One workgroup: 64 rows of one kv head, 16 a subgroup, 16 keys a step, of f16 and int8 32. Queries stay in matrices, and so do the sums of
// values: they are scaled to a new peak only where a row's peak grows by more than ROOM, e^ROOM being far from f16's end, as that
// takes a way through workgroup memory.
#import index
#import attention_rows
#import coop_pairs
#ifdef int8_blocks
#import kv_codes
#endif

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
    q_offset: u32, // first column of q
    q_stride: u32, // columns of the tensor q is in
    scale: f32,
}

const LOWEST = -1e30; // below every score
const ROOM = 8.0;
const MINE = KEYS / 8u; // vec4s of a row's scores that are a thread's
#ifdef blocks
const LANES = 32u; // threads that load a key
#endif
#ifdef half_blocks
const LANES = 16u;
#endif
#ifdef int8_blocks
const LANES = 8u;
#endif
const APART = WG / LANES; // keys from one of a thread to its next

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>; // [sequences * tokens, q_stride]
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(3) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [sequences * tokens, heads * head_dim]
@group(0) @binding(5) var<uniform> params: Params;

#ifdef int8_blocks
var<workgroup> key_scales: array<f32, KEYS>; // of a step
#endif
var<workgroup> grows: array<atomic<u32>, 4>; // does a peak? The first; 16 bytes as all next to matrices (shared/coop_tiles.wgsl)

// Columns 32 part.. of the rows from `row0` on, of which `last` is the last.
fn stage_queries(thread: u32, part: u32, row0: u32, last: u32, kv: u32) {
    let quads = params.head_dim / 4u;
    let place = q_place(min(row0 + thread / 2u, last), kv) / 4u;
    for (var i = 0u; i < 4u; i++) {
        let local = thread % 2u * 4u + i;
        let quad = 8u * part + local;
        let x = select(vec4(0.0), q[place + min(quad, quads - 1u)], quad < quads);
        let near = first_bits(x);
        tile_x[thread / 2u * PITCH_X + local] = vec4<f16>(near);
        tile_w[thread / 2u * PITCH_X + local] = vec4<f16>(x - near);
    }
}

// 16 bytes each of a head.
fn units() -> u32 {
    return params.head_dim * LANES / 128u;
}

// A thread's 16 bytes of its key number i. Threads beyond the head's columns read the last.
fn cache_place(thread: u32, i: u32, key0: u32, end: u32, kv: u32) -> u32 {
    let key = min(key0 + thread / LANES + APART * i, end - 1u);
    return (key * params.kv_heads + kv) * units() + min(thread % LANES, units() - 1u);
}

// What a thread loads of the keys or values of a step, a step ahead of need: memory is far, and the matrices take their time.
#ifdef int8_blocks
struct Rows {
    r0: vec4<u32>,
    r1: vec4<u32>,
    scales: vec2<f32>,
}

// Place of the scale of a thread's key number i.
fn scale_place(thread: u32, i: u32, key0: u32, end: u32, kv: u32) -> u32 {
    let key = min(key0 + thread / LANES + APART * i, end - 1u);
    return scale_at(key * params.kv_heads + kv, 0u);
}

fn fetch_keys(thread: u32, key0: u32, end: u32, kv: u32) -> Rows {
    let a = scale_place(thread, 0u, key0, end, kv);
    let b = scale_place(thread, 1u, key0, end, kv);
    return Rows(
        k_cache[cache_place(thread, 0u, key0, end, kv)],
        k_cache[cache_place(thread, 1u, key0, end, kv)],
        bitcast<vec2<f32>>(vec2(k_cache[a / 4u][a % 4u], k_cache[b / 4u][b % 4u])),
    );
}

fn fetch_values(thread: u32, key0: u32, end: u32, kv: u32) -> Rows {
    let a = scale_place(thread, 0u, key0, end, kv);
    let b = scale_place(thread, 1u, key0, end, kv);
    return Rows(
        v_cache[cache_place(thread, 0u, key0, end, kv)],
        v_cache[cache_place(thread, 1u, key0, end, kv)],
        bitcast<vec2<f32>>(vec2(v_cache[a / 4u][a % 4u], v_cache[b / 4u][b % 4u])),
    );
}

// Four codes: the f16 0x6400 | b is 1024 + b, and its bytes come in the order 0, 2, 1, 3.
fn four_of(word: u32) -> vec4<f16> {
    let even = (word & 0x00ff00ffu) ^ 0x64806480u;
    let odd = ((word >> 8u) & 0x00ff00ffu) ^ 0x64806480u;
    return (vec4<f16>(vec4(unpack2x16float(even), unpack2x16float(odd))) - vec4(1152h)).xzyw;
}

// First vec4 of the tile for a thread's key number i. What is beyond the head's columns meets zeros of queries, or is not stored.
fn stage_place(thread: u32, i: u32) -> u32 {
    return (thread / LANES + APART * i) * PITCH_W + 4u * (thread % LANES);
}

fn stage_codes(at: u32, words: vec4<u32>) {
    tile_w[at] = four_of(words.x);
    tile_w[at + 1u] = four_of(words.y);
    tile_w[at + 2u] = four_of(words.z);
    tile_w[at + 3u] = four_of(words.w);
}

fn stage_values(at: u32, words: vec4<u32>, scale: f32) {
    tile_w[at] = vec4<f16>(vec4<f32>(four_of(words.x)) * scale);
    tile_w[at + 1u] = vec4<f16>(vec4<f32>(four_of(words.y)) * scale);
    tile_w[at + 2u] = vec4<f16>(vec4<f32>(four_of(words.z)) * scale);
    tile_w[at + 3u] = vec4<f16>(vec4<f32>(four_of(words.w)) * scale);
}

fn stage(thread: u32, rows: Rows) {
    stage_values(stage_place(thread, 0u), rows.r0, rows.scales.x);
    stage_values(stage_place(thread, 1u), rows.r1, rows.scales.y);
}

fn stage_keys(thread: u32, rows: Rows) {
    stage_codes(stage_place(thread, 0u), rows.r0);
    stage_codes(stage_place(thread, 1u), rows.r1);
    if thread % LANES == 0u {
        key_scales[thread / LANES] = rows.scales.x;
        key_scales[APART + thread / LANES] = rows.scales.y;
    }
}

fn looked_at(rows: Rows) -> u32 {
    let all = rows.r0 ^ rows.r1 ^ bitcast<vec2<u32>>(rows.scales).xyxy;
    return all.x ^ all.y ^ all.z ^ all.w;
}

// Of four keys of the step.
fn scales_of(i: u32) -> vec4<f32> {
    return params.scale * vec4(key_scales[4u * i], key_scales[4u * i + 1u], key_scales[4u * i + 2u], key_scales[4u * i + 3u]);
}
#else
struct Rows {
    r0: vec4<u32>,
    r1: vec4<u32>,
    r2: vec4<u32>,
    r3: vec4<u32>,
}

fn fetch_keys(thread: u32, key0: u32, end: u32, kv: u32) -> Rows {
    return Rows(
        k_cache[cache_place(thread, 0u, key0, end, kv)],
        k_cache[cache_place(thread, 1u, key0, end, kv)],
        k_cache[cache_place(thread, 2u, key0, end, kv)],
        k_cache[cache_place(thread, 3u, key0, end, kv)],
    );
}

fn fetch_values(thread: u32, key0: u32, end: u32, kv: u32) -> Rows {
    return Rows(
        v_cache[cache_place(thread, 0u, key0, end, kv)],
        v_cache[cache_place(thread, 1u, key0, end, kv)],
        v_cache[cache_place(thread, 2u, key0, end, kv)],
        v_cache[cache_place(thread, 3u, key0, end, kv)],
    );
}

// Zeros for threads beyond the head's columns.
fn stage_row(thread: u32, i: u32, words: vec4<u32>) {
    let there = thread % LANES < units();
#ifdef half_blocks
    let at = (thread / LANES + APART * i) * PITCH_W + 2u * (thread % LANES);
    let all = select(vec4(0u), words, there);
    tile_w[at] = vec4<f16>(vec4(unpack2x16float(all.x), unpack2x16float(all.y)));
    tile_w[at + 1u] = vec4<f16>(vec4(unpack2x16float(all.z), unpack2x16float(all.w)));
#else
    put_w(thread / LANES + APART * i, thread % LANES, select(vec4(0.0), bitcast<vec4<f32>>(words), there));
#endif
}

fn stage(thread: u32, rows: Rows) {
    stage_row(thread, 0u, rows.r0);
    stage_row(thread, 1u, rows.r1);
    stage_row(thread, 2u, rows.r2);
    stage_row(thread, 3u, rows.r3);
}

fn stage_keys(thread: u32, rows: Rows) {
    stage(thread, rows);
}

// Some bits of all of them: a load that only the next turn of a loop takes would be moved there (shared/coop_wide.wgsl).
fn looked_at(rows: Rows) -> u32 {
    let all = rows.r0 ^ rows.r1 ^ rows.r2 ^ rows.r3;
    return all.x ^ all.y ^ all.z ^ all.w;
}

fn scales_of(i: u32) -> f32 {
    return params.scale;
}
#endif

// Scores of four keys of a row, LOWEST where they are beyond `limit`; key0 is the step's first.
fn scores_of(row: u32, i: u32, key0: u32, limit: u32) -> vec4<f32> {
    let score = scales_of(i) * sums[SUM_PITCH * row + i];
    return select(vec4(LOWEST), score, key0 + 4u * i + vec4(0u, 1u, 2u, 3u) <= vec4(limit));
}

// Puts weights of four keys of a row where left factors are; gives what they are as f16.
fn put_weights(row: u32, i: u32, weights: vec4<f32>) -> vec4<f32> {
#ifdef half_blocks int8_blocks
    let nearest = first_bits(bitcast<vec4<f32>>(bitcast<vec4<u32>>(weights) + vec4(0x1000u)));
    tile_x[row * PITCH_X + i] = vec4<f16>(nearest);
    return nearest;
#else
    put_x(row, i, weights);
    return weights;
#endif
}

// Turns half of a row's scores into weights; `peak` is the row's, `total` of this half. The other half is the next thread's.
fn soften(thread: u32, key0: u32, limit: u32, peak: ptr<function, f32>, total: ptr<function, f32>) {
    let row = thread / 2u;
    let half = thread % 2u * MINE;
    var scores: array<vec4<f32>, MINE>;
    var top = vec4(LOWEST);
    for (var j = 0u; j < MINE; j++) {
        scores[j] = scores_of(row, half + (j + row) % MINE, key0, limit); // not all rows the same: they share banks
        top = max(top, scores[j]);
    }
    let own = max(max(top.x, top.y), max(top.z, top.w));
    let highest = max(own, subgroupShuffleXor(own, 1u));
    var factor = 1.0;
    if highest > *peak + ROOM {
        factor = exp(*peak - highest);
        *peak = highest;
        atomicStore(&grows[0], 1u);
    }
    if thread % 2u == 0u {
        factors[row] = factor;
    }
    var sum = vec4(0.0);
    for (var j = 0u; j < MINE; j++) {
        let more = scores[j] - *peak;
        // A minimum would make a number of a NaN.
        let weights = select(exp(select(more, vec4(ROOM), more > vec4(ROOM))), vec4(0.0), scores[j] == vec4(LOWEST));
        sum += put_weights(row, half + (j + row) % MINE, weights);
    }
    *total = *total * factor + (sum.x + sum.y + sum.z + sum.w);
}

// The thread's half of a row: columns 16 part + 8 half.. of the result.
fn store(thread: u32, part: u32, row0: u32, last: u32, kv: u32) {
    let row = row0 + thread / 2u;
    let quads = params.head_dim / 4u;
    for (var i = 0u; i < 2u; i++) {
        let quad = 4u * part + thread % 2u * 2u + i;
        if row <= last && quad < quads {
            out[out_row(row, kv) * quads + quad] = sums[SUM_PITCH * (thread / 2u) + thread % 2u * 2u + i] * factors[thread / 2u];
        }
    }
}

// Sums times the factors of their rows.
fn rescaled(c: Sum, thread: u32, region: u32) -> Sum {
    put_sum(c, region);
    workgroupBarrier();
    rescale(thread);
    workgroupBarrier();
    let sum = get_sum(region);
    workgroupBarrier();
    return sum;
}

// Stores a matrix of each subgroup.
fn finish(c: Sum, thread: u32, region: u32, part: u32, row0: u32, last: u32, kv: u32) {
    workgroupBarrier();
    put_sum(c, region);
    workgroupBarrier();
    store(thread, part, row0, last, kv);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let thread = place.thread;
    let rows = params.tokens * (params.heads / params.kv_heads);
    let row_tiles = (rows + ROWS - 1u) / ROWS;
    // Rows that see most keys go first.
    let item = linear_workgroup(workgroup, grid);
    let kv = item % params.kv_heads;
    let sequence = item / params.kv_heads / row_tiles;
    if sequence >= params.sequences {
        return;
    }
    let tile = row_tiles - 1u - item / params.kv_heads % row_tiles;
    let repeats = params.heads / params.kv_heads;
    let base = sequence * rows;
    let first = sequence * params.max;
    let row0 = base + tile * ROWS;
    let last = base + rows - 1u;
    let before = cursor[sequence];
    // Keys any row of this tile sees, and the last that the thread's row does.
    let end = first + min(before + (min(row0 + ROWS - 1u, last) - base) / repeats + 1u, params.max);
    let limit = first + min(before + (min(row0 + thread / 2u, last) - base) / repeats, params.max - 1u);

    let warp = warp_of(place);
    let region = warp * 16u * SUM_PITCH;
    let a = warp * 16u * PITCH_X;
    stage_queries(thread, 0u, row0, last, kv);
    workgroupBarrier();
    let near0 = left(a + 0u);
    let low0 = rest(a + 0u);
    let near1 = left(a + 4u);
    let low1 = rest(a + 4u);
    workgroupBarrier();
    stage_queries(thread, 1u, row0, last, kv);
    workgroupBarrier();
    let near2 = left(a + 0u);
    let low2 = rest(a + 0u);
    let near3 = left(a + 4u);
    let low3 = rest(a + 4u);
    workgroupBarrier();
    stage_queries(thread, 2u, row0, last, kv);
    workgroupBarrier();
    let near4 = left(a + 0u);
    let low4 = rest(a + 0u);
    let near5 = left(a + 4u);
    let low5 = rest(a + 4u);
    workgroupBarrier();
    stage_queries(thread, 3u, row0, last, kv);
    workgroupBarrier();
    let near6 = left(a + 0u);
    let low6 = rest(a + 0u);
    let near7 = left(a + 4u);
    let low7 = rest(a + 4u);
    workgroupBarrier();
    var peak = LOWEST;
    var total = 0.0;
    var o0 = Sum();
    var o1 = Sum();
    var o2 = Sum();
    var o3 = Sum();
    var o4 = Sum();
    var o5 = Sum();
    var o6 = Sum();
    var o7 = Sum();
    var keys = fetch_keys(thread, first, end, kv);
    for (var key0 = first; key0 < end; key0 += KEYS) {
        stage_keys(thread, keys);
        let values = fetch_values(thread, key0, end, kv);
        if thread == 0u {
            atomicStore(&grows[0], 0u);
        }
        workgroupBarrier();
        // Two sums: each product waits for the one before of its sum.
        var s0 = Sum();
        var s1 = Sum();
#ifdef half_blocks int8_blocks
        s0 = add_dots(near0, low0, 0u, s0);
        s1 = add_dots(near0, low0, 16u * PITCH_W + 0u, s1);
        s0 = add_dots(near1, low1, 4u, s0);
        s1 = add_dots(near1, low1, 16u * PITCH_W + 4u, s1);
        s0 = add_dots(near2, low2, 8u, s0);
        s1 = add_dots(near2, low2, 16u * PITCH_W + 8u, s1);
        s0 = add_dots(near3, low3, 12u, s0);
        s1 = add_dots(near3, low3, 16u * PITCH_W + 12u, s1);
        s0 = add_dots(near4, low4, 16u, s0);
        s1 = add_dots(near4, low4, 16u * PITCH_W + 16u, s1);
        s0 = add_dots(near5, low5, 20u, s0);
        s1 = add_dots(near5, low5, 16u * PITCH_W + 20u, s1);
        s0 = add_dots(near6, low6, 24u, s0);
        s1 = add_dots(near6, low6, 16u * PITCH_W + 24u, s1);
        s0 = add_dots(near7, low7, 28u, s0);
        s1 = add_dots(near7, low7, 16u * PITCH_W + 28u, s1);
        put_sum(s0, region);
        put_sum(s1, region + 4u);
#else
        s0 = add_dots(near0, low0, 0u, s0);
        s1 = add_dots(near4, low4, 16u, s1);
        s0 = add_dots(near1, low1, 4u, s0);
        s1 = add_dots(near5, low5, 20u, s1);
        s0 = add_dots(near2, low2, 8u, s0);
        s1 = add_dots(near6, low6, 24u, s1);
        s0 = add_dots(near3, low3, 12u, s0);
        s1 = add_dots(near7, low7, 28u, s1);
        put_sum(s0 + s1, region);
#endif
        workgroupBarrier();
        soften(thread, key0, limit, &peak, &total);
        stage(thread, values);
        keys = fetch_keys(thread, key0 + KEYS, end, kv);
        if workgroupUniformLoad(&grows[0]) != 0u {
            o0 = rescaled(o0, thread, region);
            o1 = rescaled(o1, thread, region);
            o2 = rescaled(o2, thread, region);
            o3 = rescaled(o3, thread, region);
            o4 = rescaled(o4, thread, region);
            o5 = rescaled(o5, thread, region);
            o6 = rescaled(o6, thread, region);
            o7 = rescaled(o7, thread, region);
        }
        let first_weights = left(a);
#ifdef half_blocks int8_blocks
        let other_weights = left(a + 4u); // of the other 16 keys
#else
        let other_weights = left(LOW_X + a); // what is left of them
#endif
        o0 = add_products(first_weights, other_weights, 0u, o0);
        o1 = add_products(first_weights, other_weights, 4u, o1);
        o2 = add_products(first_weights, other_weights, 8u, o2);
        o3 = add_products(first_weights, other_weights, 12u, o3);
        o4 = add_products(first_weights, other_weights, 16u, o4);
        o5 = add_products(first_weights, other_weights, 20u, o5);
        o6 = add_products(first_weights, other_weights, 24u, o6);
        o7 = add_products(first_weights, other_weights, 28u, o7);
        workgroupBarrier();
    }
    if params.tokens == 0u { // never
        sums[thread] = vec4(f32(looked_at(keys)));
    }
    let whole = total + subgroupShuffleXor(total, 1u);
    if thread % 2u == 0u {
        factors[thread / 2u] = 1.0 / whole;
    }
    finish(o0, thread, region, 0u, row0, last, kv);
    finish(o1, thread, region, 1u, row0, last, kv);
    finish(o2, thread, region, 2u, row0, last, kv);
    finish(o3, thread, region, 3u, row0, last, kv);
    finish(o4, thread, region, 4u, row0, last, kv);
    finish(o5, thread, region, 5u, row0, last, kv);
    finish(o6, thread, region, 6u, row0, last, kv);
    finish(o7, thread, region, 7u, row0, last, kv);
}
