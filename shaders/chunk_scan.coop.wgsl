// chunk_scan.wgsl on cooperative matrices, for states of up to 128 elements, each number as two f16 (shared/coop_pairs.wgsl).
// One workgroup: 64 tokens by 64 columns of one head, 16 tokens a subgroup. Sums stay in matrices; what the state brings is
// decayed once, by a way through workgroup memory.
#import index
#import coop_pairs

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const COLS = 16u; // vec4s of columns of a workgroup

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> products: array<vec4<f32>>; // [tokens, groups * chunk], a chunk in whole vec4s
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>; // [tokens, heads * head_dim]
@group(0) @binding(7) var<uniform> params: Params;

// Vec4 `column` of a token.
fn row4(token: u32, column: u32) -> vec4<f32> {
    return xbc[token * ((params.heads * params.head_dim + 2u * params.groups * params.state) / 4u) + column];
}

// Columns 32 part.. of C, which begins at vec4 c_at, of the tokens from `row0` on.
fn stage_c(thread: u32, part: u32, row0: u32, last: u32, c_at: u32) {
    let quads = params.state / 4u;
    for (var i = 0u; i < 4u; i++) {
        let local = thread % 2u * 4u + i;
        let quad = 8u * part + local;
        let c = row4(min(row0 + thread / 2u, last), c_at + min(quad, quads - 1u));
        put_x(thread / 2u, local, select(vec4(0.0), c, quad < quads));
    }
}

// 32 rows of the state from row `p` of all heads' rows on, `end` the head's end.
fn stage_state(thread: u32, p: u32, end: u32) {
    let quads = params.state / 4u;
    let quad = min(thread % 32u, quads - 1u);
    for (var i = 0u; i < 8u; i++) {
        let local = thread / 32u + 4u * i;
        let s = entering[min(p + local, end - 1u) * quads + quad];
        put_w(local, thread % 32u, select(vec4(0.0), s, thread % 32u < quads));
    }
}

// x of 32 tokens, four columns of every eighth; `x_end` is the head's end.
fn fetch_x(thread: u32, s0: u32, last: u32, x_at: u32, x_end: u32) -> mat4x4<f32> {
    let column = min(x_at + thread % COLS, x_end - 1u);
    let token = s0 + thread / COLS;
    return mat4x4(
        row4(min(token, last), column),
        row4(min(token + 8u, last), column),
        row4(min(token + 16u, last), column),
        row4(min(token + 24u, last), column),
    );
}

fn stage_x(thread: u32, x: mat4x4<f32>) {
    put_w(thread / COLS, thread % COLS, x[0]);
    put_w(thread / COLS + 8u, thread % COLS, x[1]);
    put_w(thread / COLS + 16u, thread % COLS, x[2]);
    put_w(thread / COLS + 24u, thread % COLS, x[3]);
}

// Sums of dt A and dt of 32 tokens.
fn stage_keys(thread: u32, s0: u32, last: u32, base: u32) {
    let at = base + min(s0 + thread % KEYS, last);
    if thread < KEYS {
        factors[thread] = da_cumsum[at];
    } else if thread < 2u * KEYS {
        factors[thread] = dt[at];
    }
}

fn four(at: u32) -> vec4<f32> {
    return vec4(factors[at], factors[at + 1u], factors[at + 2u], factors[at + 3u]);
}

// Of tokens l thread / 8 and every sixteenth further, the products with four tokens s.
fn fetch_products(thread: u32, s0: u32, row0: u32, first: u32, last: u32, group: u32) -> mat4x4<f32> {
    let quads = (params.chunk + 3u) / 4u;
    let quad = min((s0 - first) / 4u + thread % 8u, quads - 1u);
    let rows = min(row0 + thread / 8u + vec4(0u, 16u, 32u, 48u), vec4(last));
    let at = (rows * params.groups + group) * quads + quad;
    return mat4x4(products[at.x], products[at.y], products[at.z], products[at.w]);
}

// Four of a token's C·B, decayed; zero where s > l. The difference is cut at 0 before exp, never after.
fn put_weights(row: u32, quad: u32, product: vec4<f32>, l: u32, decay_l: f32, s: vec4<u32>) {
    let value = product * exp(min(decay_l - four(4u * quad), vec4(0.0))) * four(KEYS + 4u * quad);
    put_x(row, quad, select(vec4(0.0), value, s <= vec4(l)));
}

// As `fetch_products` has them.
fn weigh(thread: u32, s0: u32, row0: u32, decay: vec4<f32>, fetched: mat4x4<f32>) {
    let row = thread / 8u;
    let quad = thread % 8u;
    let s = s0 + 4u * quad + vec4(0u, 1u, 2u, 3u);
    put_weights(row, quad, fetched[0], row0 + row, decay.x, s);
    put_weights(row + 16u, quad, fetched[1], row0 + row + 16u, decay.y, s);
    put_weights(row + 32u, quad, fetched[2], row0 + row + 32u, decay.z, s);
    put_weights(row + 48u, quad, fetched[3], row0 + row + 48u, decay.w, s);
}

// The thread's half of a token's columns 32 pair.., with D x.
fn store(thread: u32, pair: u32, row: u32, last: u32, x_at: u32, x_end: u32, skip: f32) {
    for (var i = 0u; i < 4u; i++) {
        let local = thread % 2u * 4u + i;
        let column = x_at + 8u * pair + local;
        if row <= last && column < x_end {
            y[row * (params.heads * params.head_dim / 4u) + column] = get4(thread / 2u, local) + skip * row4(row, column);
        }
    }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let thread = place.thread;
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
    let last = end - 1u;
    let l = row0 + thread / 2u;
    let base = head * params.tokens;
    let group = head / (params.heads / params.groups);
    let x_at = head * p_end + p0;
    let x_end = head * p_end + p_end;
    let c_at = params.heads * p_end + (params.groups + group) * n_end;
    let state = (chunk * params.heads + head) * params.head_dim;

    let warp = warp_of(place);
    let region = warp * 512u;
    let a = warp * 16u * PITCH_X;
    stage_c(thread, 0u, row0, last, c_at);
    workgroupBarrier();
    let near0 = left(a + 0u);
    let low0 = left(LOW_X + a + 0u);
    let near1 = left(a + 4u);
    let low1 = left(LOW_X + a + 4u);
    workgroupBarrier();
    stage_c(thread, 1u, row0, last, c_at);
    workgroupBarrier();
    let near2 = left(a + 0u);
    let low2 = left(LOW_X + a + 0u);
    let near3 = left(a + 4u);
    let low3 = left(LOW_X + a + 4u);
    workgroupBarrier();
    stage_c(thread, 2u, row0, last, c_at);
    workgroupBarrier();
    let near4 = left(a + 0u);
    let low4 = left(LOW_X + a + 0u);
    let near5 = left(a + 4u);
    let low5 = left(LOW_X + a + 4u);
    workgroupBarrier();
    stage_c(thread, 3u, row0, last, c_at);
    workgroupBarrier();
    let near6 = left(a + 0u);
    let low6 = left(LOW_X + a + 0u);
    let near7 = left(a + 4u);
    let low7 = left(LOW_X + a + 4u);
    workgroupBarrier();
    var o0 = Sum();
    var o1 = Sum();
    var o2 = Sum();
    var o3 = Sum();
    stage_state(thread, state + 4u * p0 + 0u, state + params.head_dim);
    workgroupBarrier();
    o0 = add_dots(near0, low0, 0u, o0);
    o1 = add_dots(near0, low0, 16u * PITCH_W + 0u, o1);
    o0 = add_dots(near1, low1, 4u, o0);
    o1 = add_dots(near1, low1, 16u * PITCH_W + 4u, o1);
    o0 = add_dots(near2, low2, 8u, o0);
    o1 = add_dots(near2, low2, 16u * PITCH_W + 8u, o1);
    o0 = add_dots(near3, low3, 12u, o0);
    o1 = add_dots(near3, low3, 16u * PITCH_W + 12u, o1);
    o0 = add_dots(near4, low4, 16u, o0);
    o1 = add_dots(near4, low4, 16u * PITCH_W + 16u, o1);
    o0 = add_dots(near5, low5, 20u, o0);
    o1 = add_dots(near5, low5, 16u * PITCH_W + 20u, o1);
    o0 = add_dots(near6, low6, 24u, o0);
    o1 = add_dots(near6, low6, 16u * PITCH_W + 24u, o1);
    o0 = add_dots(near7, low7, 28u, o0);
    o1 = add_dots(near7, low7, 16u * PITCH_W + 28u, o1);
    workgroupBarrier();
    stage_state(thread, state + 4u * p0 + 32u, state + params.head_dim);
    if thread < ROWS {
        factors[thread] = exp(da_cumsum[base + min(row0 + thread, last)]);
    }
    workgroupBarrier();
    o2 = add_dots(near0, low0, 0u, o2);
    o3 = add_dots(near0, low0, 16u * PITCH_W + 0u, o3);
    o2 = add_dots(near1, low1, 4u, o2);
    o3 = add_dots(near1, low1, 16u * PITCH_W + 4u, o3);
    o2 = add_dots(near2, low2, 8u, o2);
    o3 = add_dots(near2, low2, 16u * PITCH_W + 8u, o3);
    o2 = add_dots(near3, low3, 12u, o2);
    o3 = add_dots(near3, low3, 16u * PITCH_W + 12u, o3);
    o2 = add_dots(near4, low4, 16u, o2);
    o3 = add_dots(near4, low4, 16u * PITCH_W + 16u, o3);
    o2 = add_dots(near5, low5, 20u, o2);
    o3 = add_dots(near5, low5, 16u * PITCH_W + 20u, o3);
    o2 = add_dots(near6, low6, 24u, o2);
    o3 = add_dots(near6, low6, 16u * PITCH_W + 24u, o3);
    o2 = add_dots(near7, low7, 28u, o2);
    o3 = add_dots(near7, low7, 16u * PITCH_W + 28u, o3);
    workgroupBarrier();
    put_sum(o0, region);
    put_sum(o1, region + 256u);
    workgroupBarrier();
    rescale(thread);
    workgroupBarrier();
    o0 = get_sum(region);
    o1 = get_sum(region + 256u);
    workgroupBarrier();
    put_sum(o2, region);
    put_sum(o3, region + 256u);
    workgroupBarrier();
    rescale(thread);
    workgroupBarrier();
    o2 = get_sum(region);
    o3 = get_sum(region + 256u);
    stage_keys(thread, first, last, base);
    var fetched = fetch_products(thread, first, row0, first, last, group);
    var x = fetch_x(thread, first, last, x_at, x_end);
    let rows = base + min(row0 + thread / 8u + vec4(0u, 16u, 32u, 48u), vec4(last));
    let decay = vec4(da_cumsum[rows.x], da_cumsum[rows.y], da_cumsum[rows.z], da_cumsum[rows.w]);
    workgroupBarrier();
    for (var s0 = first; s0 < min(row0 + ROWS, end); s0 += KEYS) {
        weigh(thread, s0, row0, decay, fetched);
        stage_x(thread, x);
        workgroupBarrier();
        // The next tokens s come while the matrices are multiplied.
        stage_keys(thread, s0 + KEYS, last, base);
        fetched = fetch_products(thread, s0 + KEYS, row0, first, last, group);
        x = fetch_x(thread, s0 + KEYS, last, x_at, x_end);
        let weights0 = left(a);
        let weights1 = left(a + 4u);
        let rest0 = left(LOW_X + a);
        let rest1 = left(LOW_X + a + 4u);
        o0 = add_products(weights0, weights1, rest0, rest1, 0u, o0);
        o1 = add_products(weights0, weights1, rest0, rest1, 4u, o1);
        o2 = add_products(weights0, weights1, rest0, rest1, 8u, o2);
        o3 = add_products(weights0, weights1, rest0, rest1, 12u, o3);
        workgroupBarrier();
    }
    put_sum(o0, region);
    put_sum(o1, region + 256u);
    workgroupBarrier();
    store(thread, 0u, l, last, x_at, x_end, d[head]);
    workgroupBarrier();
    put_sum(o2, region);
    put_sum(o3, region + 256u);
    workgroupBarrier();
    store(thread, 1u, l, last, x_at, x_end, d[head]);
}
