// chunk_scan.wgsl on cooperative matrices, for states of up to 128 elements, each number as two f16 (shared/first_bits.wgsl).
// One workgroup: 128 tokens by 64 columns of one head, 32 by 32 a subgroup. Both terms are one product of rows with columns:
// first of decayed C with the entering state, 16 elements of the state a step, then of decayed C·B, with D on its diagonal,
// with x, 16 tokens s a step. So sums stay in the matrices from the first step to the last. What a step needs is loaded while
// the matrices of the one before are multiplied. Workgroup memory is below 24 KiB, so that two workgroups share a core (docs/performance.md).
#import first_bits
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
const COLS = 16u; // vec4s of columns
const STEP = 16u; // elements of the state, or tokens s, of a step
const PITCH = 10u; // vec4s from a row of a tile to the next: 4 of first bits, 4 of what is left, padded against bank conflicts
const PITCH_X = 34u; // of tokens of x: 16 and 16, likewise
const LOW = 4u; // where what is left begins in a row
const LOW_X = 16u; // likewise
const KEYS = 64u; // vec4s of a step in `sums`: every 32 threads put the same, each at its own place
const APART = 64u; // rows from one of a thread to its next

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> products: array<vec4<u32>>; // [tokens, groups * chunk], a chunk in whole vec4s
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<vec4<u32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>; // [tokens, heads * head_dim]
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> lefts: array<vec4<f16>, ROWS * PITCH>; // [token, step's element]
var<workgroup> rights: array<vec4<f16>, 4u * COLS * PITCH>; // [column, element of the state], or [token, column]
var<workgroup> sums: array<vec4<f32>, 512>; // a matrix of each subgroup; before, of two steps' tokens s the sums of dt A and dt

// What a thread loads of a step: four columns of two rows of the left factor, and of a row of the right one.
struct Batch {
    l0: vec4<f32>,
    l1: vec4<f32>,
    r: vec4<f32>,
}

// Where a workgroup and a thread are.
struct Spot {
    thread: u32,
    line: u32, // the thread's first row of the tiles
    part: u32, // its vec4 of a step
    row0: u32, // first token
    first: u32, // of the chunk
    last: u32,
    base: u32, // of the head's dt
    c_at: u32, // vec4s in a row of xbc
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
    return (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
}

fn put_left(at: u32, x: vec4<f32>) {
    let near = first_bits(x);
    lefts[at] = vec4<f16>(near);
    lefts[LOW + at] = vec4<f16>(x - near);
}

fn put_right(at: u32, low: u32, x: vec4<f32>) {
    let near = first_bits(x);
    rights[at] = vec4<f16>(near);
    rights[low + at] = vec4<f16>(x - near);
}

// Of a step of the state's elements.
fn fetch_state(spot: Spot, step: u32) -> Batch {
    let quads = params.state / 4u;
    let quad = min(4u * step + spot.part, quads - 1u);
    let row = spot.row0 + spot.line;
    return Batch(
        bitcast<vec4<f32>>(xbc[min(row, spot.last) * stride() + spot.c_at + quad]),
        bitcast<vec4<f32>>(xbc[min(row + APART, spot.last) * stride() + spot.c_at + quad]),
        bitcast<vec4<f32>>(entering[min(spot.state_at + spot.line, spot.state_last) * quads + quad]),
    );
}

fn stage_state(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + spot.part;
    let within = 4u * step + spot.part < params.state / 4u;
    let factors = select(vec2(0.0), spot.grown, within);
    put_left(at, batch.l0 * factors.x);
    put_left(at + APART * PITCH, batch.l1 * factors.y);
    put_right(at, LOW, batch.r);
}

// Of 16 tokens s.
fn fetch_tokens(spot: Spot, step: u32) -> Batch {
    let quads = (params.chunk + 3u) / 4u;
    let quad = min(4u * step + spot.part, quads - 1u);
    let row = spot.row0 + spot.line;
    let s = min(spot.first + STEP * step + spot.thread / COLS, spot.last);
    return Batch(
        bitcast<vec4<f32>>(products[min(row, spot.last) * params.groups * quads + spot.products_at + quad]),
        bitcast<vec4<f32>>(products[min(row + APART, spot.last) * params.groups * quads + spot.products_at + quad]),
        bitcast<vec4<f32>>(xbc[s * stride() + min(spot.x_at + spot.thread % COLS, spot.x_end - 1u)]),
    );
}

// Of a step's token s the sum of dt A, or its dt; each 32 threads all of them.
fn fetch_key(spot: Spot, step: u32) -> f32 {
    let at = spot.base + min(spot.first + STEP * step + spot.thread % STEP, spot.last);
    return select(dt[at], da_cumsum[at], spot.thread % (2u * STEP) < STEP);
}

fn put_key(thread: u32, step: u32, key: f32) {
    sums[step % 2u * KEYS + thread / 4u][thread % 4u] = key;
}

// Four weights of a row, which is of the chunk's `block`th 16 tokens, in the step of as many tokens s: zero where s > l; those
// beyond what the row's subgroup multiplies are left out. The difference is cut at 0 before exp, never after.
fn put_weights(spot: Spot, at: u32, step: u32, block: u32, product: vec4<f32>, difference: vec4<f32>) {
    let value = product * exp(min(difference, vec4(0.0)));
    if step < block {
        put_left(at, value);
    } else if step == block {
        let s = 4u * spot.part + vec4(0u, 1u, 2u, 3u);
        let l = vec4(spot.line % STEP);
        put_left(at, select(vec4(0.0), value, s <= l) + select(vec4(0.0), vec4(spot.skip), s == l));
    } else if step == (block | 1u) { // the subgroup's other 16 tokens have some
        put_left(at, vec4(0.0));
    }
}

fn stage_tokens(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + spot.part;
    let key = step % 2u * KEYS + spot.part;
    let decay = sums[key];
    let dt_s = sums[key + 4u];
    let block = (spot.row0 - spot.first + spot.line) / STEP;
    put_right(spot.thread / COLS * PITCH_X + spot.thread % COLS, LOW_X, batch.r);
    put_weights(spot, at, step, block, batch.l0 * dt_s, spot.decay.x - decay);
    put_weights(spot, at + APART * PITCH, step, block + APART / STEP, batch.l1 * dt_s, spot.decay.y - decay);
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

fn add(near: Left, low: Left, b: Right, b_low: Right, c: Sum) -> Sum {
    return multiply_add(near, b, multiply_add(low, b, multiply_add(near, b_low, c)));
}

// A step's products, of two matrices' rows and columns.
fn add_step(a: u32, b0: Right, b1: Right, low0: Right, low1: Right, c: ptr<function, Sums>) {
    let near_a = left(a);
    let low_a = left(LOW + a);
    (*c).c00 = add(near_a, low_a, b0, low0, (*c).c00);
    (*c).c01 = add(near_a, low_a, b1, low1, (*c).c01);
    let near_b = left(a + 16u * PITCH);
    let low_b = left(LOW + a + 16u * PITCH);
    (*c).c10 = add(near_b, low_b, b0, low0, (*c).c10);
    (*c).c11 = add(near_b, low_b, b1, low1, (*c).c11);
}

fn add_state(a: u32, b: u32, c: ptr<function, Sums>) {
    add_step(a, right(b), right(b + 16u * PITCH), right(LOW + b), right(LOW + b + 16u * PITCH), c);
}

fn add_tokens(a: u32, b: u32, c: ptr<function, Sums>) {
    add_step(a, right_by_rows(b), right_by_rows(b + 4u), right_by_rows(LOW_X + b), right_by_rows(LOW_X + b + 4u), c);
}

// Stores a matrix of the subgroup, by way of workgroup memory: whole vec4s, of tokens and columns that are there.
fn store(sum: Sum, place: Place, row: u32, last: u32, column: u32, end: u32) {
    let region = warp_of(place) * 64u;
    put_sum(sum, region);
    workgroupBarrier();
    let token = row + place.lane / 4u;
    let quad = column + place.lane % 4u;
    let pitch = params.heads * params.head_dim / 4u;
    let at = token * pitch + quad;
    if token <= last && quad < end {
        y[at] = bitcast<vec4<u32>>(sums[region + place.lane]);
    }
    if token + 8u <= last && quad < end {
        y[at + 8u * pitch] = bitcast<vec4<u32>>(sums[region + 32u + place.lane]);
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let p_end = params.head_dim / 4u;
    let n_end = params.state / 4u;
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
    spot.part = place.thread % 4u;
    spot.row0 = row0;
    spot.last = end - 1u;
    spot.first = first;
    spot.base = head * params.tokens;
    let group = head / (params.heads / params.groups);
    spot.c_at = params.heads * p_end + (params.groups + group) * n_end;
    spot.x_at = head * p_end + p0;
    spot.x_end = head * p_end + p_end;
    spot.products_at = group * ((params.chunk + 3u) / 4u);
    spot.state_at = (chunk * params.heads + head) * params.head_dim + 4u * p0;
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
    let steps = (n_end + 3u) / 4u;
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
    let column = spot.x_at + warp % 2u * 8u;
    store(c.c00, place, top, spot.last, column, spot.x_end);
    store(c.c01, place, top, spot.last, column + 4u, spot.x_end);
    store(c.c10, place, top + 16u, spot.last, column, spot.x_end);
    store(c.c11, place, top + 16u, spot.last, column + 4u, spot.x_end);
}
