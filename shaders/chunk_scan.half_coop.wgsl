// chunk_scan.wgsl for f16 tensors on cooperative matrices (shared/scan_tiles.wgsl): each number one f16, decayed C and decayed products
// rounded to f16, so one product instead of chunk_scan.coop.wgsl's three. States, heads and chunks in whole 16 bytes.
//
// Loads are two steps ahead, in loops of two steps: what is loaded in one turn is used in the next. NVIDIA's compiler moves a load down to
// its use if no loop's turn lies between, behind barriers and into branches (docs/performance.md).
#import half_words
#import scan_tiles

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const NUMBERS = 8u;
const PITCH = 10u; // 8, padded against bank conflicts
const PITCH_X = 18u; // 16, likewise
const PART = 64.0; // products are a 64th
const BLOCK = 128u; // tokens s whose keys are in `sums` at a time
const LOG2E = 1.4426950408889634;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read> products: array<vec4<u32>>; // [tokens, groups * chunk] f16, a chunk in whole units
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<vec4<u32>>; // [chunks, heads * head_dim * state] f16
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>; // [tokens, heads * head_dim] f16
@group(0) @binding(7) var<uniform> params: Params;

// Weights of token s are products times 2 to what token l's sum of dt A times log2(e) is above s's key, which has dt in it. The least dt
// comes to nothing in f16.
fn fetch_key(spot: Spot, step: u32) -> f32 {
    let at = spot.base + min(spot.first + STEP * step + spot.thread % BLOCK, spot.last);
    return LOG2E * da_cumsum[at] - log2(max(PART * dt[at], 1e-37));
}

// Keys of four threads as one vec4, which one of them stores.
fn put_key(key: f32, place: Place) {
    let four = four_from(key, lane_of(place) % 8u * 4u, place);
    if 32u * warp_of(place) < BLOCK && lane_of(place) < 8u {
        sums[8u * warp_of(place) + lane_of(place)] = four;
    }
}

fn put_left(at: u32, a: vec4<f32>, b: vec4<f32>) {
    lefts[at] = vec4<f16>(a);
    lefts[at + 1u] = vec4<f16>(b);
}

fn put_right(at: u32, unit: vec4<u32>) {
    rights[at] = vec4<f16>(halves4(unit.xy));
    rights[at + 1u] = vec4<f16>(halves4(unit.zw));
}

fn stage_state(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + 2u * spot.part;
    let factors = grown_of(spot, step);
    put_left(at, halves4(batch.l0.xy) * factors.x, halves4(batch.l0.zw) * factors.x);
    put_left(at + APART * PITCH, halves4(batch.l1.xy) * factors.y, halves4(batch.l1.zw) * factors.y);
    put_right(at, batch.r);
}

// Eight weights of a row, which is of the chunk's `block`th 32 tokens, in the step of as many tokens s; of later steps the row's
// subgroup multiplies none, and what is not a number where s > l is not taken.
fn put_weights(spot: Spot, at: u32, step: u32, block: u32, unit: vec4<u32>, decay: f32) {
    if step <= block {
        let quad = 2u * spot.part;
        let key = STEP * step % BLOCK / 4u + quad;
        let a = halves4(unit.xy) * exp2(LOG2E * decay - sums[key]);
        let b = halves4(unit.zw) * exp2(LOG2E * decay - sums[key + 1u]);
        if step < block {
            put_left(at, a, b);
        } else {
            put_left(at, masked(spot, quad, a), masked(spot, quad + 1u, b));
        }
    }
}

fn stage_tokens(spot: Spot, step: u32, batch: Batch) {
    let at = spot.line * PITCH + 2u * spot.part;
    let block = block_of(spot);
    put_right(spot.thread / COLS * PITCH_X + 2u * (spot.thread % COLS), batch.r);
    put_weights(spot, at, step, block, batch.l0, spot.decay.x);
    put_weights(spot, at + APART * PITCH, step, block + APART / STEP, batch.l1, spot.decay.y);
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

// Sums of both terms, of the subgroup's part.
fn terms(start: ptr<function, Spot>, part: Part, tokens: u32, place: Place) -> Sums {
    var even = fetch_state(*start, 0u);
    var odd = fetch_state(*start, 1u);
    find_decays(start);
    let spot = *start;
    var key = fetch_key(spot, 0u);
    var c = Sums();
    // The last two steps, of which the state may have the first alone, are behind the loop.
    let steps = state_steps();
    var step = 0u;
    for (; step + 2u < steps; step += 2u) {
        workgroupBarrier();
        stage_state(spot, step, even);
        even = fetch_state(spot, step + 2u);
        workgroupBarrier();
        add_state(part.left, part.right, &c);
        workgroupBarrier();
        stage_state(spot, step + 1u, odd);
        odd = fetch_state(spot, step + 3u);
        workgroupBarrier();
        add_state(part.left, part.right, &c);
    }
    workgroupBarrier();
    stage_state(spot, step, even);
    even = fetch_tokens(spot, 0u);
    workgroupBarrier();
    add_state(part.left, part.right, &c);
    workgroupBarrier();
    stage_state(spot, step + 1u, odd);
    odd = fetch_tokens(spot, 1u);
    workgroupBarrier();
    add_state(part.left, part.right, &c);
    for (step = 0u; STEP * step < tokens; step += 2u) {
        if STEP * step % BLOCK == 0u {
            put_key(key, place);
            key = fetch_key(spot, step + BLOCK / STEP);
        }
        workgroupBarrier();
        stage_tokens(spot, step, even);
        even = fetch_tokens(spot, step + 2u);
        workgroupBarrier();
        if reads(spot, step, part) {
            add_tokens(part.left, part.right_x, &c);
        }
        workgroupBarrier();
        stage_tokens(spot, step + 1u, odd);
        odd = fetch_tokens(spot, step + 3u);
        workgroupBarrier();
        if reads(spot, step + 1u, part) {
            add_tokens(part.left, part.right_x, &c);
        }
    }
    return c;
}

// Stores a matrix of the subgroup, by way of workgroup memory: whole units, of tokens and columns that are there.
fn store(sum: Sum, place: Place, row: u32, last: u32, column: u32, end: u32) {
    let region = warp_of(place) * 64u;
    put_matrix(sum, region, 4u);
    workgroupBarrier();
    let token = row + lane_of(place) / 2u;
    let unit = column + lane_of(place) % 2u;
    if token <= last && unit < end {
        let at = region + 2u * lane_of(place);
        y[token * (params.heads * params.head_dim / 8u) + unit] = vec4(words_of(sums[at]), words_of(sums[at + 1u]));
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    scan(workgroup, grid, place);
}
