// chunk_entering.wgsl on cooperative matrices, for heads and states of whole 16 elements. One workgroup: 64 rows p of a head by 64 n,
// 32 by 16 a subgroup, 32 tokens a step. The state stays in the matrices from the first token to the last. x times its weight is rounded
// to f16; weights of a block are scaled by a power of two before, and sums with them: a small dt would be lost to f16.
//
// Four steps are a block, written out: what a step needs is loaded two steps ahead, and what a block's weights are made of a block ahead.
// A branch or a loop's turn between a load and its use makes NVIDIA's compiler wait for the load there (docs/performance.md).
#import half_words
#import index
#import token_tiles
#import warps

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 256u;
const STEP = 32u; // tokens of a step
const BLOCK = 4u * STEP; // and of a block
const SIDE = 8u; // units of a tile's rows and of its n; a unit is 16 bytes of f16, eight numbers
const PITCH_X = 18u; // vec4s from a token to the next in workgroup memory: 16, padded against bank conflicts
const PITCH_B = PITCH_X;
const PITCH_SUMS = 5u; // of sums: 4, likewise
const UNSCALED = 127u;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> ssm_state: array<vec4<f32>>; // [heads, head_dim * state]
@group(0) @binding(4) var<storage, read_write> entering: array<vec4<u32>>; // [chunks, heads * head_dim * state] f16
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f16>, STEP * PITCH_X>; // [token, row]
var<workgroup> tile_b: array<vec4<f16>, STEP * PITCH_B>; // [token, n]
var<workgroup> sums: array<vec4<f32>, 128u * PITCH_SUMS>; // a matrix of each subgroup

// What a thread loads of a step: a unit of x and of B of one token.
struct Batch {
    x: vec4<u32>,
    b: vec4<u32>,
}

// And of a block: sums of dt A, and dt, of those tokens of its steps that are the thread's lane.
struct Keys {
    decay: vec4<f32>,
    dt: vec4<f32>,
}

struct Spot {
    thread: u32,
    lane: u32,
    x_at: u32, // units in a row of xbc
    b_at: u32,
    base: u32, // of the head's dt
    left: u32, // the subgroup's rows in the tile of x, and its columns in that of B
    right: u32,
}

// Two matrices one below the other, in units of 2^(exponent - 127).
struct State {
    upper: Sum,
    lower: Sum,
    exponent: u32,
}

// Beyond the last token, the last again.
fn fetch(spot: Spot, token: u32) -> Batch {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 8u;
    let at = min(token + spot.thread / SIDE, params.tokens - 1u) * stride;
    return Batch(xbc[at + spot.x_at], xbc[at + spot.b_at]);
}

// The lane's token of each step of a block.
fn tokens_of(spot: Spot, first: u32) -> vec4<u32> {
    return first + spot.lane + STEP * vec4(0u, 1u, 2u, 3u);
}

fn fetch_keys(spot: Spot, first: u32) -> Keys {
    let at = spot.base + min(tokens_of(spot, first), vec4(params.tokens - 1u));
    return Keys(
        vec4(da_cumsum[at.x], da_cumsum[at.y], da_cumsum[at.z], da_cumsum[at.w]),
        vec4(dt[at.x], dt[at.y], dt[at.z], dt[at.w]),
    );
}

fn scaled(state: ptr<function, State>, factor: f32) {
    (*state).upper = times((*state).upper, factor);
    (*state).lower = times((*state).lower, factor);
}

// What a block's tokens weigh at the chunk's end, in units that the state is brought to, in which none is above 1; 0 from token `end` on.
fn weigh(spot: Spot, keys: Keys, first: u32, end: u32, decay_last: f32, state: ptr<function, State>, place: Place) -> vec4<f32> {
    let there = tokens_of(spot, first) < vec4(end);
    let weights = select(vec4(0.0), exp(min(decay_last - keys.decay, vec4(0.0))) * keys.dt, there);
    let most = max(max(weights.x, weights.y), max(weights.z, weights.w));
    let exponent = clamp((bitcast<u32>(warp_max(most, place)) >> 23u) + 1u, 64u, 190u);
    scaled(state, bitcast<f32>((UNSCALED + (*state).exponent - exponent) << 23u));
    (*state).exponent = exponent;
    return weights * bitcast<f32>((254u - exponent) << 23u);
}

fn stage(spot: Spot, batch: Batch, weight: f32) {
    let at = spot.thread / SIDE * PITCH_X + 2u * (spot.thread % SIDE);
    tile_x[at] = vec4<f16>(halves4(batch.x.xy) * weight);
    tile_x[at + 1u] = vec4<f16>(halves4(batch.x.zw) * weight);
    tile_b[at] = vec4<f16>(halves4(batch.b.xy));
    tile_b[at + 1u] = vec4<f16>(halves4(batch.b.zw));
}

// Products of 16 tokens.
fn add(x: u32, b: u32, state: ptr<function, State>) {
    let n = right(b);
    (*state).upper = multiply_add(left(x), n, (*state).upper);
    (*state).lower = multiply_add(left(x + 4u), n, (*state).lower);
}

// A step whose tokens are `batch` and have the lanes' weights. Gives what there is from token `ahead` on.
fn step_of(spot: Spot, batch: Batch, weight: f32, ahead: u32, state: ptr<function, State>, place: Place) -> Batch {
    let of_token = from_lane(weight, place.thread / SIDE, place);
    workgroupBarrier();
    stage(spot, batch, of_token);
    let later = fetch(spot, ahead);
    workgroupBarrier();
    add(spot.left, spot.right, state);
    add(spot.left + 16u * PITCH_X, spot.right + 16u * PITCH_B, state);
    return later;
}

// A matrix of the subgroup from the state; zeros where it has none.
fn take(region: u32, lane: u32, at: u32, width: u32, there: bool) -> Sum {
    let near = region + lane / 4u * PITCH_SUMS + lane % 4u;
    let start = select(0u, at + lane / 4u * width + lane % 4u, there);
    workgroupBarrier(); // sums may still be read
    sums[near] = select(vec4(0.0), ssm_state[start], there);
    sums[near + 8u * PITCH_SUMS] = select(vec4(0.0), ssm_state[start + select(0u, 8u * width, there)], there);
    workgroupBarrier();
    return get_matrix(region, PITCH_SUMS);
}

// A matrix as f16, a unit a lane.
fn enter(c: Sum, region: u32, lane: u32, at: u32, there: bool) {
    put_matrix(c, region, PITCH_SUMS);
    workgroupBarrier();
    let near = region + lane / 2u * PITCH_SUMS + 2u * (lane % 2u);
    if there {
        entering[at] = vec4(words_of(sums[near]), words_of(sums[near + 1u]));
    }
    workgroupBarrier();
}

fn leave(c: Sum, region: u32, lane: u32, at: u32, width: u32, there: bool) {
    put_matrix(c, region, PITCH_SUMS);
    workgroupBarrier();
    let near = region + lane / 4u * PITCH_SUMS + lane % 4u;
    let to = at + lane / 4u * width + lane % 4u;
    if there {
        ssm_state[to] = sums[near];
        ssm_state[to + 8u * width] = sums[near + 8u * PITCH_SUMS];
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let p_end = params.head_dim / 8u;
    let n_end = params.state / 8u;
    let p_tiles = (p_end + SIDE - 1u) / SIDE;
    let n_tiles = (n_end + SIDE - 1u) / SIDE;
    var item = linear_workgroup(workgroup, grid);
    let n0 = item % n_tiles * SIDE;
    item /= n_tiles;
    let p0 = item % p_tiles * SIDE;
    let head = item / p_tiles;
    if head >= params.heads {
        return;
    }
    // Rows and columns beyond the end are the last again; what they give is not stored.
    let lane = lane_of(place);
    var spot: Spot;
    spot.thread = place.thread;
    spot.lane = lane;
    spot.x_at = head * p_end + min(p0 + place.thread % SIDE, p_end - 1u);
    spot.b_at = params.heads * p_end + head / (params.heads / params.groups) * n_end + min(n0 + place.thread % SIDE, n_end - 1u);
    spot.base = head * params.tokens;
    var near = fetch(spot, 0u);
    var far = fetch(spot, STEP);
    var keys = fetch_keys(spot, 0u);

    // The subgroup's matrices: rows from `row` on of the head, columns from unit `unit` on.
    let warp = warp_of(place);
    let region = warp * 16u * PITCH_SUMS;
    let row = 8u * p0 + warp / 4u * 32u;
    let unit = n0 + warp % 4u * 2u;
    spot.left = warp / 4u * 8u;
    spot.right = warp % 4u * 4u;
    let upper = row < params.head_dim && unit < n_end;
    let lower = row + 16u < params.head_dim && unit < n_end;
    let width = 2u * n_end; // vec4s of a row of the f32 state
    let at = (head * params.head_dim + row) * width + 2u * unit;
    var state: State;
    state.upper = take(region, lane, at, width, upper);
    state.lower = take(region, lane, at + 16u * width, width, lower);
    state.exponent = UNSCALED;
    workgroupBarrier(); // sums are read
    var to = (head * params.head_dim + row + lane / 2u) * n_end + unit + lane % 2u;
    var decay_next = da_cumsum[spot.base + min(params.chunk, params.tokens) - 1u];
    for (var first = 0u; first < params.tokens; first += params.chunk) {
        scaled(&state, bitcast<f32>(state.exponent << 23u));
        state.exponent = UNSCALED;
        enter(state.upper, region, lane, to, upper);
        enter(state.lower, region, lane, to + 16u * n_end, lower);
        to += params.heads * params.head_dim * n_end;
        let end = min(first + params.chunk, params.tokens);
        let decay_last = decay_next;
        decay_next = da_cumsum[spot.base + min(end + params.chunk, params.tokens) - 1u];
        scaled(&state, exp(decay_last));
        for (var l = first; l < end; l += BLOCK) {
            let next = min(l + BLOCK, end);
            let weights = weigh(spot, keys, l, end, decay_last, &state, place);
            keys = fetch_keys(spot, next);
#ifdef coop_emulated
            // A software driver's compiler takes minutes for four copies.
            for (var step = 0u; step < 4u; step++) {
                let ahead = select(l + (step + 2u) * STEP, next + (step - 2u) * STEP, step >= 2u);
                let later = step_of(spot, near, weights[step], ahead, &state, place);
                near = far;
                far = later;
            }
#else
            let third = step_of(spot, near, weights.x, l + 2u * STEP, &state, place);
            let fourth = step_of(spot, far, weights.y, l + 3u * STEP, &state, place);
            near = step_of(spot, third, weights.z, next, &state, place);
            far = step_of(spot, fourth, weights.w, next + STEP, &state, place);
#endif
        }
    }
    scaled(&state, bitcast<f32>(state.exponent << 23u));
    leave(state.upper, region, lane, at, width, upper);
    leave(state.lower, region, lane, at + 16u * width, width, lower);
}
