// states[c, h, p, n] = sum over l in chunk c of exp(da[last] - da[l]) dt[l] x[l, p] B[l, n]: what a chunk adds
// to the state (Dao & Gu 2024, arXiv:2405.21060, section 6). head_dim and state are multiples of 4.
// One workgroup: 64 p by 64 n of one head.
#import index
#import matrix
#import outer_products

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    chunk: u32,
}

@group(0) @binding(0) var<storage, read> xbc: array<vec4<f32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(3) var<storage, read_write> states: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(4) var<uniform> params: Params;

// Four rows of xbc from `row` on at one column; beyond `last` it repeats (their weight is zero).
fn rows4(row: u32, last: u32, column: u32) -> mat4x4<f32> {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last)) * stride + column;
    return mat4x4(xbc[at.x], xbc[at.y], xbc[at.z], xbc[at.w]);
}

// What four tokens from `l` on add to the state at its end; 0 beyond the last.
fn weights4(base: u32, l: u32, last: u32) -> vec4<f32> {
    let tokens = l + vec4(0u, 1u, 2u, 3u);
    let at = base + min(tokens, vec4(last));
    let decay = da_cumsum[base + last] - vec4(da_cumsum[at.x], da_cumsum[at.y], da_cumsum[at.z], da_cumsum[at.w]);
    return select(vec4(0.0), exp(decay) * vec4(dt[at.x], dt[at.y], dt[at.z], dt[at.w]), tokens <= vec4(last));
}

// Rows p, p+1, p+2, p+3 of the state at column n.
fn store(row: u32, n: u32, sum: mat4x4<f32>) {
    let width = params.state / 4u;
    if n < width {
        states[row * width + n] = sum[0];
        states[(row + 1u) * width + n] = sum[1];
        states[(row + 2u) * width + n] = sum[2];
        states[(row + 3u) * width + n] = sum[3];
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
    let n_tiles = (n_end + QUADS - 1u) / QUADS;
    var item = linear_workgroup(workgroup, grid);
    let n0 = item % n_tiles * QUADS;
    item /= n_tiles;
    let p0 = item % p_tiles * QUADS;
    item /= p_tiles;
    let head = item % params.heads;
    let chunk = item / params.heads;
    let first = chunk * params.chunk;
    if first >= params.tokens {
        return;
    }
    let last = min(first + params.chunk, params.tokens) - 1u;

    // Columns that the thread stages, of x or of B; those beyond the end are the last again, and not stored.
    let staged = staged_by(thread);
    let group = head / (params.heads / params.groups);
    let x_at = head * p_end + min(p0 + staged.quad, p_end - 1u);
    let b_at = params.heads * p_end + group * n_end + min(n0 + staged.quad, n_end - 1u);
    let base = head * params.tokens;
    var sums = Sums(); // columns p, rows n
    for (var start = first; start <= last; start += STEP) {
        let l = start + 4u * staged.part;
        var terms = rows4(l, last, select(b_at, x_at, staged.left));
        if staged.left {
            terms = scale_columns(terms, weights4(base, l, last));
        }
        workgroupBarrier(); // the last step's may still be read
        stage(thread, terms);
        workgroupBarrier();
        sums = add_step(sums, thread);
    }
    let p = p0 + left_quad(thread);
    let n = n0 + right_quad(thread);
    if p < p_end {
        let row = ((chunk * params.heads + head) * p_end + p) * 4u;
        store(row, n, sums.near);
        store(row, n + QUADS / 2u, sums.far);
    }
}
