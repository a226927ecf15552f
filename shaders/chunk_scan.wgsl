// y[l] = exp(da[l]) C[l]·S + sum over s <= l of (C[l]·B[s]) exp(da[l] - da[s]) dt[s] x[s] + D x[l] within each
// chunk, S the state that enters it, C[l]·B[s] of chunk_products.wgsl (Dao & Gu 2024, arXiv:2405.21060, section 6).
// head_dim, state: multiples of 4.
// One workgroup: 64 tokens by 64 columns of one head. A thread: tokens 4i..4i+4 and 32 further, columns likewise.
#import index
#import matrix
#import scan_values

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const WG = 64u;
const ROWS = 64u; // tokens of a workgroup
const HALF = 32u; // also the tokens s of one step
const SIDE = 8u; // threads along tokens and along columns
const PITCH = 9u; // SIDE, padded against bank conflicts

@group(0) @binding(0) var<storage, read> xbc: array<Four>; // [tokens, heads * head_dim + 2 * groups * state] f32 or f16
@group(0) @binding(1) var<storage, read> products: array<Four>; // [tokens, groups * chunk] likewise, a chunk in whole 16 bytes; of f16 a 64th
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<Four>; // [chunks, heads * head_dim * state] as xbc
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<Four>; // [tokens, heads * head_dim] as xbc
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> weights: array<vec4<f32>, ROWS * PITCH>; // of token s in token l: [l, s / 4]

// C·B of four tokens l, the matrix's columns, and four tokens s; beyond the last, any.
fn products4(l: u32, last: u32, group: u32, quad: u32) -> mat4x4<f32> {
    let quads = product_quads();
    let rows = min(vec4(l, l + 1u, l + 2u, l + 3u), vec4(last));
    let at = (rows * params.groups + group) * quads + min(quad, quads - 1u);
    return PART * mat4x4(four(products[at.x]), four(products[at.y]), four(products[at.z]), four(products[at.w]));
}

// Four elements of four rows of the entering state: columns are n, rows are p.
fn entering4(at: u32, n_end: u32) -> mat4x4<f32> {
    let rows = at + n_end * vec4(0u, 1u, 2u, 3u);
    return transpose(mat4x4(four(entering[rows.x]), four(entering[rows.y]), four(entering[rows.z]), four(entering[rows.w])));
}

// Four values of a [heads, tokens] tensor's row, of da_cumsum and of dt.
fn decay4(base: u32, t: u32, last: u32) -> vec4<f32> {
    let at = base + min(vec4(t, t + 1u, t + 2u, t + 3u), vec4(last));
    return vec4(da_cumsum[at.x], da_cumsum[at.y], da_cumsum[at.z], da_cumsum[at.w]);
}

fn dt4(base: u32, t: u32, last: u32) -> vec4<f32> {
    let at = base + min(vec4(t, t + 1u, t + 2u, t + 3u), vec4(last));
    return vec4(dt[at.x], dt[at.y], dt[at.z], dt[at.w]);
}

// C[l]·B[s] for four s, decayed; zero where s > l. The difference is cut at 0 before exp, never after.
fn weigh(product: vec4<f32>, l: u32, decay_l: f32, s: u32, decay_s: vec4<f32>, dt_s: vec4<f32>) -> vec4<f32> {
    let value = product * exp(min(decay_l - decay_s, vec4(0.0))) * dt_s;
    return select(vec4(0.0), value, vec4(s, s + 1u, s + 2u, s + 3u) <= vec4(l));
}

fn put_weights(sums: mat4x4<f32>, local: u32, key: u32, l: u32, decay_l: vec4<f32>, s: u32, decay_s: vec4<f32>, dt_s: vec4<f32>) {
    let at = local * PITCH + key;
    weights[at] = weigh(sums[0], l, decay_l.x, s, decay_s, dt_s);
    weights[at + PITCH] = weigh(sums[1], l + 1u, decay_l.y, s, decay_s, dt_s);
    weights[at + 2u * PITCH] = weigh(sums[2], l + 2u, decay_l.z, s, decay_s, dt_s);
    weights[at + 3u * PITCH] = weigh(sums[3], l + 3u, decay_l.w, s, decay_s, dt_s);
}

fn get_weights(local: u32, key: u32) -> mat4x4<f32> {
    let at = local * PITCH + key;
    return mat4x4(weights[at], weights[at + PITCH], weights[at + 2u * PITCH], weights[at + 3u * PITCH]);
}

// One token's four columns from `at` on, with D x.
fn put(row: u32, last: u32, head: u32, at: u32, sum: vec4<f32>, x: vec4<f32>) {
    if row <= last {
        y[row * (params.heads * params.head_dim / 4u) + at] = four_of(sum + d[head] * x);
    }
}

fn store(row: u32, last: u32, head: u32, column: u32, sums: mat4x4<f32>) {
    if column < params.head_dim / 4u {
        let at = head * (params.head_dim / 4u) + column;
        let x = rows4(row, last, at);
        put(row, last, head, at, sums[0], x[0]);
        put(row + 1u, last, head, at, sums[1], x[1]);
        put(row + 2u, last, head, at, sums[2], x[2]);
        put(row + 3u, last, head, at, sums[3], x[3]);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let p_end = params.head_dim / 4u;
    let n_end = params.state / 4u;
    let p_tiles = (p_end + 2u * SIDE - 1u) / (2u * SIDE);
    let row_tiles = (params.chunk + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let p0 = item % p_tiles * 2u * SIDE;
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

    let i = thread / SIDE;
    let j = thread % SIDE;
    let local = 4u * i;
    let l = row0 + local;
    // Threads without a token skip the products. A bound that is not uniform also keeps lavapipe from compiling
    // the shader anew for every value of the parameters.
    let n_steps = select(0u, n_end, l < end);
    let two_rows = row0 + HALF < end;
    let two_columns = p0 + SIDE < p_end;
    let group = head / (params.heads / params.groups);
    let c_at = params.heads * p_end + (params.groups + group) * n_end;
    let pa = min(p0 + j, p_end - 1u);
    let pb = min(p0 + j + SIDE, p_end - 1u);
    let base = head * params.tokens;
    let decay_a = decay4(base, l, last);
    let decay_b = decay4(base, l + HALF, last);

    // What the state brings: columns are tokens, rows are p.
    let state_a = ((chunk * params.heads + head) * p_end + pa) * 4u * n_end;
    let state_b = ((chunk * params.heads + head) * p_end + pb) * 4u * n_end;
    var yaa = mat4x4<f32>(); // sums for the two halves of the tokens and of the columns
    var yab = mat4x4<f32>();
    var yba = mat4x4<f32>();
    var ybb = mat4x4<f32>();
    for (var n = 0u; n < n_steps; n++) {
        let at = state_a + n;
        let sa = entering4(at, n_end);
        let ca = rows4(l, last, c_at + n);
        yaa += sa * ca;
        var cb = ca;
        if two_rows {
            cb = rows4(l + HALF, last, c_at + n);
            yba += sa * cb;
        }
        if two_columns {
            let bt = state_b + n;
            let sb = entering4(bt, n_end);
            yab += sb * ca;
            ybb += sb * cb;
        }
    }
    yaa = scale_columns(yaa, exp(decay_a));
    yab = scale_columns(yab, exp(decay_a));
    yba = scale_columns(yba, exp(decay_b));
    ybb = scale_columns(ybb, exp(decay_b));

    for (var s0 = first; s0 < min(row0 + ROWS, end); s0 += HALF) {
        let s = s0 + 4u * j;
        let ga = products4(l, last, group, (s - first) / 4u);
        let gb = products4(l + HALF, last, group, (s - first) / 4u);
        let decay_s = decay4(base, s, last);
        let dt_s = dt4(base, s, last);
        workgroupBarrier(); // the last step's weights may still be read
        put_weights(ga, local, j, l, decay_a, s, decay_s, dt_s);
        put_weights(gb, local + HALF, j, l + HALF, decay_b, s, decay_s, dt_s);
        workgroupBarrier();
        for (var k = 0u; k < (min(HALF, end - s0) + 3u) / 4u; k++) {
            let wa = get_weights(local, k);
            let wb = get_weights(local + HALF, k);
            let xa = rows4(s0 + 4u * k, last, head * p_end + pa);
            yaa += xa * wa;
            if two_rows {
                yba += xa * wb;
            }
            if two_columns {
                let xb = rows4(s0 + 4u * k, last, head * p_end + pb);
                yab += xb * wa;
                ybb += xb * wb;
            }
        }
    }
    store(l, last, head, p0 + j, yaa);
    store(l, last, head, p0 + j + SIDE, yab);
    if two_rows {
        store(l + HALF, last, head, p0 + j, yba);
        store(l + HALF, last, head, p0 + j + SIDE, ybb);
    }
}
