// chunk_scan.wgsl on cooperative matrices (shared/scan_tiles.wgsl), for states of up to 128 elements, each number as two f16
// (shared/first_bits.wgsl).
#import first_bits
#import scan_tiles

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const NUMBERS = 4u;
const PITCH = 10u; // 4 of first bits, 4 of what is left, padded against bank conflicts
const PITCH_X = 34u; // 16 and 16, likewise
const LOW = 4u; // where what is left begins in a row
const LOW_X = 16u; // likewise
const KEYS = 8u; // vec4s of a step in `sums`

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> products: array<vec4<u32>>; // [tokens, groups * chunk], a chunk in whole vec4s
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<vec4<u32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>; // [tokens, heads * head_dim]
@group(0) @binding(7) var<uniform> params: Params;

// Of a step's token s the sum of dt A, or its dt; each subgroup all of them.
fn fetch_key(spot: Spot, step: u32) -> f32 {
    let at = spot.base + min(spot.first + STEP * step + spot.thread % STEP, spot.last);
    return select(dt[at], da_cumsum[at], spot.thread % (2u * STEP) < STEP);
}

// Keys of four threads as one vec4, which one of them stores.
fn put_key(step: u32, key: f32, place: Place) {
    let four = four_from(key, lane_of(place) % KEYS * 4u, place);
    if warp_of(place) == 0u && lane_of(place) < KEYS {
        sums[step % 2u * KEYS + lane_of(place)] = four;
    }
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

fn stage_state(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + spot.part;
    let factors = grown_of(spot, step);
    put_left(at, bitcast<vec4<f32>>(batch.l0) * factors.x);
    put_left(at + APART * PITCH, bitcast<vec4<f32>>(batch.l1) * factors.y);
    put_right(at, LOW, bitcast<vec4<f32>>(batch.r));
}

// Four weights of a row, which is of the chunk's `block`th 16 tokens, in the step of as many tokens s; those
// beyond what the row's subgroup multiplies are left out. The difference is cut at 0 before exp, never after.
fn put_weights(spot: Spot, at: u32, step: u32, block: u32, product: vec4<f32>, difference: vec4<f32>) {
    let value = product * exp(min(difference, vec4(0.0)));
    if step < block {
        put_left(at, value);
    } else if step == block {
        put_left(at, masked(spot, spot.part, value));
    } else if step == (block | 1u) { // the subgroup's other 16 tokens have some
        put_left(at, vec4(0.0));
    }
}

fn stage_tokens(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + spot.part;
    let key = step % 2u * KEYS + spot.part;
    let decay = sums[key];
    let dt_s = sums[key + 4u];
    let block = block_of(spot);
    put_right(spot.thread / COLS * PITCH_X + spot.thread % COLS, LOW_X, bitcast<vec4<f32>>(batch.r));
    put_weights(spot, at, step, block, bitcast<vec4<f32>>(batch.l0) * dt_s, spot.decay.x - decay);
    let next = at + APART * PITCH;
    put_weights(spot, next, step, block + APART / STEP, bitcast<vec4<f32>>(batch.l1) * dt_s, spot.decay.y - decay);
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

// Sums of both terms, of the subgroup's part.
fn terms(start: ptr<function, Spot>, part: Part, tokens: u32, place: Place) -> Sums {
    var batch = fetch_state(*start, 0u);
    find_decays(start);
    let spot = *start;
    put_key(0u, fetch_key(spot, 0u), place);
    var key = fetch_key(spot, 1u);
    var c = Sums();
    let steps = state_steps();
    for (var step = 0u; step < steps - 1u; step++) {
        workgroupBarrier();
        stage_state(spot, step, batch);
        batch = fetch_state(spot, step + 1u);
        workgroupBarrier();
        add_state(part.left, part.right, &c);
    }
    workgroupBarrier();
    stage_state(spot, steps - 1u, batch);
    batch = fetch_tokens(spot, 0u);
    workgroupBarrier();
    add_state(part.left, part.right, &c);
    for (var step = 0u; STEP * step < tokens; step++) {
        workgroupBarrier();
        stage_tokens(spot, step, batch);
        batch = fetch_tokens(spot, step + 1u);
        put_key(step + 1u, key, place);
        key = fetch_key(spot, step + 2u);
        workgroupBarrier();
        if reads(spot, step, part) {
            add_tokens(part.left, part.right_x, &c);
        }
    }
    return c;
}

// Stores a matrix of the subgroup, by way of workgroup memory: whole vec4s, of tokens and columns that are there.
fn store(sum: Sum, place: Place, row: u32, last: u32, column: u32, end: u32) {
    let region = warp_of(place) * 64u;
    put_matrix(sum, region, 4u);
    workgroupBarrier();
    let token = row + lane_of(place) / 4u;
    let quad = column + lane_of(place) % 4u;
    let pitch = params.heads * params.head_dim / 4u;
    let at = token * pitch + quad;
    if token <= last && quad < end {
        y[at] = bitcast<vec4<u32>>(sums[region + lane_of(place)]);
    }
    if token + 8u <= last && quad < end {
        y[at + 8u * pitch] = bitcast<vec4<u32>>(sums[region + 32u + lane_of(place)]);
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    scan(workgroup, grid, place);
}
