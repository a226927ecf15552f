// y[l] = exp(da[l]) C[l]·S + sum over s <= l of (C[l]·B[s]) exp(da[l] - da[s]) dt[s] x[s] + D x[l] within each
// chunk, S the state that enters it, C[l]·B[s] of chunk_products.wgsl (Dao & Gu 2024, arXiv:2405.21060, section 6).
// head_dim, state: multiples of 4.
// One workgroup: 64 tokens by 64 columns of one head. Both terms are sums of outer products: of decayed C with the state, then of
// decayed C·B, with D on its diagonal, with x.
#import index
#import matrix
#import outer_products
#import scan_values

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

const ROWS = 64u; // tokens of a workgroup

@group(0) @binding(0) var<storage, read> xbc: array<Four>; // [tokens, heads * head_dim + 2 * groups * state] f32 or f16
@group(0) @binding(1) var<storage, read> products: array<Four>; // [tokens, groups * chunk] likewise, a chunk in whole 16 bytes; of f16 a 64th
@group(0) @binding(2) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read> entering: array<Four>; // [chunks, heads * head_dim * state] as xbc
@group(0) @binding(5) var<storage, read> d: array<f32>; // [heads]
@group(0) @binding(6) var<storage, read_write> y: array<Four>; // [tokens, heads * head_dim] as xbc
@group(0) @binding(7) var<uniform> params: Params;

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

// C[l]·B[s] dt[s] for four s, decayed; zero where s > l, and with D where s is l. The difference is cut at 0 before exp, never after.
fn weigh(product: vec4<f32>, l: u32, difference: vec4<f32>, s: vec4<u32>, skip: f32) -> vec4<f32> {
    let value = product * exp(min(difference, vec4(0.0)));
    return select(vec4(0.0), value, s <= vec4(l)) + select(vec4(0.0), vec4(skip), s == vec4(l));
}

fn store_row(row: u32, last: u32, at: u32, sum: vec4<f32>) {
    if row <= last {
        y[row * (params.heads * params.head_dim / 4u) + at] = four_of(sum);
    }
}

fn store(row: u32, last: u32, head: u32, column: u32, sums: mat4x4<f32>) {
    if column < params.head_dim / 4u {
        let at = head * (params.head_dim / 4u) + column;
        store_row(row, last, at, sums[0]);
        store_row(row + 1u, last, at, sums[1]);
        store_row(row + 2u, last, at, sums[2]);
        store_row(row + 3u, last, at, sums[3]);
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
    let p_tiles = (p_end + QUADS - 1u) / QUADS;
    let row_tiles = (params.chunk + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let p0 = item % p_tiles * QUADS;
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

    // What the thread stages: four terms of four tokens l, or of four columns; columns beyond the end are the last again.
    let staged = staged_by(thread);
    let l = row0 + 4u * staged.quad;
    let column = min(p0 + staged.quad, p_end - 1u);
    let group = head / (params.heads / params.groups);
    let base = head * params.tokens;
    let decay = decay4(base, l, last);
    let c_at = params.heads * p_end + (params.groups + group) * n_end;
    let state_at = ((chunk * params.heads + head) * p_end + column) * 4u * n_end;
    var sums = Sums();
    for (var step = 0u; step < n_end; step += STEP / 4u) {
        let n = step + staged.part;
        let near = min(n, n_end - 1u);
        var terms: mat4x4<f32>;
        if staged.left {
            terms = transpose(scale_columns(rows4(l, last, c_at + near), select(vec4(0.0), exp(decay), n < n_end)));
        } else {
            terms = entering4(state_at + near, n_end);
        }
        workgroupBarrier(); // the last step's may still be read
        stage(thread, terms);
        workgroupBarrier();
        sums = add_step(sums, thread);
    }
    for (var s0 = first; s0 < min(row0 + ROWS, end); s0 += STEP) {
        let t = s0 + 4u * staged.part;
        var terms: mat4x4<f32>;
        if staged.left {
            let made = products4(l, last, group, (t - first) / 4u);
            let before = decay4(base, t, last);
            let dt_s = dt4(base, t, last);
            let s = t + vec4(0u, 1u, 2u, 3u);
            terms = transpose(mat4x4(
                weigh(made[0] * dt_s, l, decay.x - before, s, d[head]),
                weigh(made[1] * dt_s, l + 1u, decay.y - before, s, d[head]),
                weigh(made[2] * dt_s, l + 2u, decay.z - before, s, d[head]),
                weigh(made[3] * dt_s, l + 3u, decay.w - before, s, d[head]),
            ));
        } else {
            terms = rows4(t, last, head * p_end + column);
        }
        workgroupBarrier();
        stage(thread, terms);
        workgroupBarrier();
        sums = add_step(sums, thread);
    }
    let row = row0 + 4u * left_quad(thread);
    store(row, last, head, p0 + right_quad(thread), sums.near);
    store(row, last, head, p0 + right_quad(thread) + QUADS / 2u, sums.far);
}
