// chunk_state.wgsl on cooperative matrices, for heads and states of whole 16 elements; each number as two f16
// (shared/first_bits.wgsl). One workgroup: 128 rows (p of heads of one group, one behind the other) by 128 n, 16 rows a
// subgroup, 32 tokens at a time. A head's weights are scaled by a power of two before, and its sums back: a small dt would be
// lost to f16.
#import coop_split
#import index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 256u;
const QUADS = 32u; // of a tile's rows, and of its n
const TOKENS = 32u; // of a step
const PITCH = 34u; // vec4s from a token to the next in workgroup memory, padded against bank conflicts
const LOW = 1088u; // TOKENS * PITCH: where what is left of the numbers begins

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> states: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f16>, 2u * LOW>; // [token, row]
var<workgroup> tile_b: array<vec4<f16>, 2u * LOW>; // [token, n]
var<workgroup> exponents: array<u32, 8>; // of the largest dt of each subgroup's head

// Exponent of the largest dt of a head's tokens from l0 up to `end`, for all threads of a subgroup.
fn exponent_of(l0: u32, end: u32, lane: u32) -> u32 {
    var top = 0.0;
    for (var l = l0 + lane; l < end; l += 32u) {
        top = max(top, dt[l]);
    }
    return clamp(bitcast<u32>(subgroupMax(top)) >> 23u, 1u, 253u);
}

// Vec4 `column` of every eighth token from `token` on; beyond the last, the last again.
fn rows4(token: u32, last: u32, column: u32) -> mat4x4<f32> {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(token + vec4(0u, 8u, 16u, 24u), vec4(last)) * stride + column;
    return mat4x4(xbc[at.x], xbc[at.y], xbc[at.z], xbc[at.w]);
}

// Their weights, none beyond the last.
fn weights4(token: u32, last: u32, base: u32, decay_last: f32, scale: f32) -> vec4<f32> {
    let tokens = token + vec4(0u, 8u, 16u, 24u);
    let at = base + min(tokens, vec4(last));
    let decay = vec4(da_cumsum[at.x], da_cumsum[at.y], da_cumsum[at.z], da_cumsum[at.w]);
    let weight = exp(decay_last - decay) * (vec4(dt[at.x], dt[at.y], dt[at.z], dt[at.w]) * scale);
    return select(vec4(0.0), weight, tokens <= vec4(last));
}

fn put_b(at: u32, b: vec4<f32>) {
    let near = first_bits(b);
    tile_b[at] = vec4<f16>(near);
    tile_b[LOW + at] = vec4<f16>(b - near);
}

fn stage(thread: u32, x: mat4x4<f32>, weights: vec4<f32>, b: mat4x4<f32>) {
    let at = thread / QUADS * PITCH + thread % QUADS;
    put_x(at, x[0] * weights.x);
    put_x(at + 8u * PITCH, x[1] * weights.y);
    put_x(at + 16u * PITCH, x[2] * weights.z);
    put_x(at + 24u * PITCH, x[3] * weights.w);
    put_b(at, b[0]);
    put_b(at + 8u * PITCH, b[1]);
    put_b(at + 16u * PITCH, b[2]);
    put_b(at + 24u * PITCH, b[3]);
}

// The tile's rows are the matrix's columns.
fn left(at: u32) -> Left {
    return coopLoad<Left>(&tile_x[at], PITCH);
}

fn right(at: u32) -> Right {
    return coopLoadT<Right>(&tile_b[at], PITCH);
}

// Sixteen rows of sixteen.
fn store(c: Sum, at: u32, pitch: u32) {
    coopStoreT(c, &states[at], pitch);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let thread = place.thread;
    let n_end = params.state / 4u;
    let rows_end = params.heads / params.groups * params.head_dim / 4u; // quads of a group's rows
    let n_tiles = (n_end + QUADS - 1u) / QUADS;
    let row_tiles = (rows_end + QUADS - 1u) / QUADS;
    var item = linear_workgroup(workgroup, grid);
    let n0 = item % n_tiles * QUADS;
    item /= n_tiles;
    let row0 = item % row_tiles * QUADS;
    item /= row_tiles;
    let group = item % params.groups;
    let chunk = item / params.groups;
    let first = chunk * params.chunk;
    if first >= params.tokens {
        return;
    }
    let end = min(first + params.chunk, params.tokens);
    let last = end - 1u;
    let warp = warp_of(place);
    let head_quads = params.head_dim / 4u;
    let warp_base = (group * rows_end + min(row0 + 4u * warp, rows_end - 1u)) / head_quads * params.tokens;
    let exponent = exponent_of(warp_base + first, warp_base + end, place.lane);
    if leads(place) {
        exponents[warp] = exponent;
    }
    // Rows and columns beyond the end are the last again; what they give is not stored.
    let x_at = group * rows_end + min(row0 + thread % QUADS, rows_end - 1u);
    let b_at = (params.heads * params.head_dim + group * params.state) / 4u + min(n0 + thread % QUADS, n_end - 1u);
    let base = x_at / head_quads * params.tokens;
    let decay_last = da_cumsum[base + last];
    let mine = first + thread / QUADS;
    var x = rows4(mine, last, x_at);
    var b = rows4(mine, last, b_at);
    workgroupBarrier();
    let scale = bitcast<f32>((254u - exponents[thread % QUADS / 4u]) << 23u); // 1 to 2 for the largest
    var weights = weights4(mine, last, base, decay_last, scale);
    var c0 = Sum();
    var c1 = Sum();
    var c2 = Sum();
    var c3 = Sum();
    var c4 = Sum();
    var c5 = Sum();
    var c6 = Sum();
    var c7 = Sum();
    for (var step = 0u; first + step < end; step += TOKENS) {
        stage(thread, x, weights, b);
        workgroupBarrier();
        // The next tokens come while the matrices are multiplied.
        x = rows4(mine + step + TOKENS, last, x_at);
        b = rows4(mine + step + TOKENS, last, b_at);
        weights = weights4(mine + step + TOKENS, last, base, decay_last, scale);
        let near0 = left(0u * PITCH + 4u * warp);
        let low0 = left(LOW + 0u * PITCH + 4u * warp);
        c0 = add(near0, low0, 0u * PITCH + 0u, c0);
        c1 = add(near0, low0, 0u * PITCH + 4u, c1);
        c2 = add(near0, low0, 0u * PITCH + 8u, c2);
        c3 = add(near0, low0, 0u * PITCH + 12u, c3);
        c4 = add(near0, low0, 0u * PITCH + 16u, c4);
        c5 = add(near0, low0, 0u * PITCH + 20u, c5);
        c6 = add(near0, low0, 0u * PITCH + 24u, c6);
        c7 = add(near0, low0, 0u * PITCH + 28u, c7);
        let near1 = left(16u * PITCH + 4u * warp);
        let low1 = left(LOW + 16u * PITCH + 4u * warp);
        c0 = add(near1, low1, 16u * PITCH + 0u, c0);
        c1 = add(near1, low1, 16u * PITCH + 4u, c1);
        c2 = add(near1, low1, 16u * PITCH + 8u, c2);
        c3 = add(near1, low1, 16u * PITCH + 12u, c3);
        c4 = add(near1, low1, 16u * PITCH + 16u, c4);
        c5 = add(near1, low1, 16u * PITCH + 20u, c5);
        c6 = add(near1, low1, 16u * PITCH + 24u, c6);
        c7 = add(near1, low1, 16u * PITCH + 28u, c7);
        workgroupBarrier();
    }
    let row = row0 + 4u * warp;
    if row < rows_end {
        let unscale = bitcast<f32>(exponent << 23u);
        let at = (chunk * params.heads * params.head_dim + 4u * (group * rows_end + row)) * n_end + n0;
        let columns = n_end - n0;
        store(c0 * unscale, at, n_end);
        if columns > 4u {
            store(c1 * unscale, at + 4u, n_end);
        }
        if columns > 8u {
            store(c2 * unscale, at + 8u, n_end);
        }
        if columns > 12u {
            store(c3 * unscale, at + 12u, n_end);
        }
        if columns > 16u {
            store(c4 * unscale, at + 16u, n_end);
        }
        if columns > 20u {
            store(c5 * unscale, at + 20u, n_end);
        }
        if columns > 24u {
            store(c6 * unscale, at + 24u, n_end);
        }
        if columns > 28u {
            store(c7 * unscale, at + 28u, n_end);
        }
    }
}
