// chunk_scan.coop.wgsl for f16 tensors: each number one f16, decayed C and decayed products rounded to f16, so one product instead of
// three. 32 elements of the state, or tokens s, a step; states, heads and chunks in whole 16 bytes.
#import half_words
#import index
#import matrices

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 256u;
const ROWS = 128u; // tokens of a workgroup
const COLS = 8u; // units of columns; a unit is 16 bytes, eight numbers
const STEP = 32u; // elements of the state, or tokens s, of a step
const UNITS = 4u; // of a step
const PITCH = 10u; // vec4s from a row of a tile to the next: 8, padded against bank conflicts
const PITCH_X = 18u; // of tokens of x: 16, likewise
const KEYS = 64u; // vec4s of a step in `sums`: every 64 threads put the same, each at its own place
const APART = 64u; // rows from one of a thread to its next
const PART = 64.0; // products are a 64th

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read> products: array<vec4<u32>>; // [tokens, groups * chunk] f16, a chunk in whole units
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<vec4<u32>>; // [chunks, heads * head_dim * state] f16
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>; // [tokens, heads * head_dim] f16
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> lefts: array<vec4<f16>, ROWS * PITCH>; // [token, step's element]
var<workgroup> rights: array<vec4<f16>, 64u * PITCH>; // [column, element of the state], or [token, column]
var<workgroup> sums: array<vec4<f32>, 512>; // a matrix of each subgroup; before, of two steps' tokens s the sums of dt A and dt

// What a thread loads of a step: a unit of two rows of the left factor, and of a row of the right one.
struct Batch {
    l0: vec4<u32>,
    l1: vec4<u32>,
    r: vec4<u32>,
}

// Where a workgroup and a thread are.
struct Spot {
    thread: u32,
    line: u32, // the thread's first row of the tiles
    part: u32, // its unit of a step
    row0: u32, // first token
    first: u32, // of the chunk
    last: u32,
    base: u32, // of the head's dt
    c_at: u32, // units in a row of xbc
    x_at: u32,
    x_end: u32,
    products_at: u32, // and of products
    state_at: u32, // rows of the entering state
    state_last: u32,
    decay: vec2<f32>, // sums of dt A of the thread's rows
    grown: vec2<f32>, // their exp
    skip: f32, // D
}

fn stride() -> u32 {
    return (params.heads * params.head_dim + 2u * params.groups * params.state) / 8u;
}

fn put_left(at: u32, a: vec4<f32>, b: vec4<f32>) {
    lefts[at] = vec4<f16>(a);
    lefts[at + 1u] = vec4<f16>(b);
}

fn put_right(at: u32, unit: vec4<u32>) {
    rights[at] = vec4<f16>(halves4(unit.xy));
    rights[at + 1u] = vec4<f16>(halves4(unit.zw));
}

// Of a step of the state's elements.
fn fetch_state(spot: Spot, step: u32) -> Batch {
    let units = params.state / 8u;
    let unit = min(UNITS * step + spot.part, units - 1u);
    let row = spot.row0 + spot.line;
    return Batch(
        xbc[min(row, spot.last) * stride() + spot.c_at + unit],
        xbc[min(row + APART, spot.last) * stride() + spot.c_at + unit],
        entering[min(spot.state_at + spot.line, spot.state_last) * units + unit],
    );
}

fn stage_state(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + 2u * spot.part;
    let within = UNITS * step + spot.part < params.state / 8u;
    let factors = select(vec2(0.0), spot.grown, within);
    put_left(at, halves4(batch.l0.xy) * factors.x, halves4(batch.l0.zw) * factors.x);
    put_left(at + APART * PITCH, halves4(batch.l1.xy) * factors.y, halves4(batch.l1.zw) * factors.y);
    put_right(at, batch.r);
}

// Of 32 tokens s.
fn fetch_tokens(spot: Spot, step: u32) -> Batch {
    let units = (params.chunk + 7u) / 8u;
    let unit = min(UNITS * step + spot.part, units - 1u) + spot.products_at;
    let row = spot.row0 + spot.line;
    let s = min(spot.first + STEP * step + spot.thread / COLS, spot.last);
    return Batch(
        products[min(row, spot.last) * params.groups * units + unit],
        products[min(row + APART, spot.last) * params.groups * units + unit],
        xbc[s * stride() + min(spot.x_at + spot.thread % COLS, spot.x_end - 1u)],
    );
}

// Of a step's token s the sum of dt A, or its dt, with what products are a part of; each 64 threads all of them.
fn fetch_key(spot: Spot, step: u32) -> f32 {
    let at = spot.base + min(spot.first + STEP * step + spot.thread % STEP, spot.last);
    return select(PART * dt[at], da_cumsum[at], spot.thread % (2u * STEP) < STEP);
}

fn put_key(thread: u32, step: u32, key: f32) {
    sums[step % 2u * KEYS + thread / 4u][thread % 4u] = key;
}

// Of the 32 tokens that the row is one of: zero where s > l, and D where s is l.
fn masked(spot: Spot, quad: u32, value: vec4<f32>) -> vec4<f32> {
    let s = 4u * quad + vec4(0u, 1u, 2u, 3u);
    let l = vec4(spot.line % STEP);
    return select(vec4(0.0), value, s <= l) + select(vec4(0.0), vec4(spot.skip), s == l);
}

// Eight weights of a row, which is of the chunk's `block`th 32 tokens, in the step of as many tokens s; of later steps the row's
// subgroup multiplies none. The difference is cut at 0 before exp, never after.
fn put_weights(spot: Spot, at: u32, step: u32, block: u32, unit: vec4<u32>, decay: f32) {
    if step <= block {
        let quad = 2u * spot.part;
        let key = step % 2u * KEYS + quad;
        let a = halves4(unit.xy) * sums[key + 8u] * exp(min(decay - sums[key], vec4(0.0)));
        let b = halves4(unit.zw) * sums[key + 9u] * exp(min(decay - sums[key + 1u], vec4(0.0)));
        if step < block {
            put_left(at, a, b);
        } else {
            put_left(at, masked(spot, quad, a), masked(spot, quad + 1u, b));
        }
    }
}

fn stage_tokens(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + 2u * spot.part;
    let block = (spot.row0 - spot.first + spot.line) / STEP;
    put_right(spot.thread / COLS * PITCH_X + 2u * (spot.thread % COLS), batch.r);
    put_weights(spot, at, step, block, batch.l0, spot.decay.x);
    put_weights(spot, at + APART * PITCH, step, block + APART / STEP, batch.l1, spot.decay.y);
}

fn left(at: u32) -> Left {
    return coopLoadT<Left>(&lefts[at], PITCH);
}

// Of a tile whose rows are the matrix's columns.
fn right(at: u32) -> Right {
    return coopLoad<Right>(&rights[at], PITCH);
}

// Of one whose rows are the matrix's.
fn right_by_rows(at: u32) -> Right {
    return coopLoadT<Right>(&rights[at], PITCH_X);
}

fn put_sum(c: Sum, at: u32) {
    coopStoreT(c, &sums[at], 4u);
}

struct Sums {
    c00: Sum,
    c01: Sum,
    c10: Sum,
    c11: Sum,
}

// Products of 16 columns of two matrices' rows with two matrices.
fn add_step(a: u32, b0: Right, b1: Right, c: ptr<function, Sums>) {
    let a0 = left(a);
    (*c).c00 = multiply_add(a0, b0, (*c).c00);
    (*c).c01 = multiply_add(a0, b1, (*c).c01);
    let a1 = left(a + 16u * PITCH);
    (*c).c10 = multiply_add(a1, b0, (*c).c10);
    (*c).c11 = multiply_add(a1, b1, (*c).c11);
}

fn add_state(a: u32, b: u32, c: ptr<function, Sums>) {
    add_step(a, right(b), right(b + 16u * PITCH), c);
    add_step(a + 4u, right(b + 4u), right(b + 16u * PITCH + 4u), c);
}

fn add_tokens(a: u32, b: u32, c: ptr<function, Sums>) {
    add_step(a, right_by_rows(b), right_by_rows(b + 4u), c);
    let next = b + 16u * PITCH_X;
    add_step(a + 4u, right_by_rows(next), right_by_rows(next + 4u), c);
}

// Stores a matrix of the subgroup, by way of workgroup memory: whole units, of tokens and columns that are there.
fn store(sum: Sum, place: Place, row: u32, last: u32, column: u32, end: u32) {
    let region = warp_of(place) * 64u;
    put_sum(sum, region);
    workgroupBarrier();
    let token = row + place.lane / 2u;
    let unit = column + place.lane % 2u;
    if token <= last && unit < end {
        let at = region + 2u * place.lane;
        y[token * (params.heads * params.head_dim / 8u) + unit] = vec4(words_of(sums[at]), words_of(sums[at + 1u]));
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let p_end = params.head_dim / 8u;
    let n_end = params.state / 8u;
    let p_tiles = (p_end + COLS - 1u) / COLS;
    let row_tiles = (params.chunk + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let p0 = item % p_tiles * COLS;
    item /= p_tiles;
    let head = item % params.heads;
    item /= params.heads;
    let chunk = item / row_tiles;
    let first = chunk * params.chunk;
    let row0 = first + item % row_tiles * ROWS;
    let end = min(first + params.chunk, params.tokens);
    if row0 >= end {
        return;
    }
    var spot: Spot;
    spot.thread = place.thread;
    // Rows 0, 2, 4, 6, 1, .. of each eight: four that are staged together share no bank.
    let quad = place.thread / 4u;
    spot.line = (quad & ~7u) | ((quad & 3u) << 1u) | ((quad >> 2u) & 1u);
    spot.part = place.thread % UNITS;
    spot.row0 = row0;
    spot.last = end - 1u;
    spot.first = first;
    spot.base = head * params.tokens;
    let group = head / (params.heads / params.groups);
    spot.c_at = params.heads * p_end + (params.groups + group) * n_end;
    spot.x_at = head * p_end + p0;
    spot.x_end = head * p_end + p_end;
    spot.products_at = group * ((params.chunk + 7u) / 8u);
    spot.state_at = (chunk * params.heads + head) * params.head_dim + 8u * p0;
    spot.state_last = (chunk * params.heads + head + 1u) * params.head_dim - 1u;
    spot.skip = d[head];
    var batch = fetch_state(spot, 0u);
    let rows = spot.base + min(row0 + spot.line + vec2(0u, APART), vec2(spot.last));
    spot.decay = vec2(da_cumsum[rows.x], da_cumsum[rows.y]);
    spot.grown = exp(spot.decay);
    put_key(spot.thread, 0u, fetch_key(spot, 0u));
    var key = fetch_key(spot, 1u);

    let warp = warp_of(place);
    let top = row0 + warp / 2u * 32u; // the subgroup's first token
    let a = warp / 2u * 32u * PITCH;
    let b = warp % 2u * 32u * PITCH;
    let bx = warp % 2u * 8u;
    var c = Sums();
    let steps = (n_end + UNITS - 1u) / UNITS;
    for (var step = 0u; step < steps - 1u; step++) {
        workgroupBarrier();
        stage_state(spot, step, batch);
        batch = fetch_state(spot, step + 1u);
        workgroupBarrier();
        add_state(a, b, &c);
    }
    workgroupBarrier();
    stage_state(spot, steps - 1u, batch);
    batch = fetch_tokens(spot, 0u);
    workgroupBarrier();
    add_state(a, b, &c);
    let tokens = min(row0 + ROWS, end) - first;
    for (var step = 0u; STEP * step < tokens; step++) {
        workgroupBarrier();
        stage_tokens(spot, step, batch);
        batch = fetch_tokens(spot, step + 1u);
        put_key(spot.thread, step + 1u, key);
        key = fetch_key(spot, step + 2u);
        workgroupBarrier();
        if first + STEP * step < top + 32u {
            add_tokens(a, bx, &c);
        }
    }
    let column = spot.x_at + warp % 2u * 4u;
    store(c.c00, place, top, spot.last, column, spot.x_end);
    store(c.c01, place, top, spot.last, column + 2u, spot.x_end);
    store(c.c10, place, top + 16u, spot.last, column, spot.x_end);
    store(c.c11, place, top + 16u, spot.last, column + 2u, spot.x_end);
}
