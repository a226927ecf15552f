// totals += transpose(a) * b over the tokens of this launch: second moments of activations, for GPTQ (Frantar et al.
// 2022, arXiv:2210.17323). Totals are compensated (Knuth's TwoSum), as a calibration adds up thousands of launches.
// One workgroup: 128 rows by 128 columns, from tiles of 16 tokens. A thread: 4 rows from 4 y and from 64 + 4 y, by columns
// likewise.
#import compensated
#import index

struct Params {
    tokens: u32,
    n: u32, // columns of a
    m: u32, // columns of b
    upper: u32, // 1: b is a, and tiles wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

const SIDE = 16u;
const TILE = 128u;
const DEPTH = 16u; // tokens of a tile
const QUADS = TILE / 4u; // of a token

@group(0) @binding(0) var<storage, read> a: array<f32>; // [tokens, n]
@group(0) @binding(1) var<storage, read> b: array<f32>; // [tokens, m]
@group(0) @binding(2) var<storage, read_write> totals: array<f32>; // [n, m]
@group(0) @binding(3) var<storage, read_write> lost: array<f32>; // [n, m]: what rounding the totals lost
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> a_tile: array<vec4<f32>, DEPTH * TILE / 4u>; // [token, row / 4]
var<workgroup> b_tile: array<vec4<f32>, DEPTH * TILE / 4u>; // [token, column / 4]

fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(x.x * y, x.y * y, x.z * y, x.w * y);
}

// Four rows of a token. Beyond the last token or row any; beyond the last token b is 0, and rows and columns beyond the end are not
// stored.
fn a_at(token: u32, row: u32) -> vec4<f32> {
    let at = min(token, params.tokens - 1u) * params.n + min(row + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
    return vec4(a[at.x], a[at.y], a[at.z], a[at.w]);
}

fn b_at(token: u32, column: u32) -> vec4<f32> {
    let at = min(token, params.tokens - 1u) * params.m + min(column + vec4(0u, 1u, 2u, 3u), vec4(params.m - 1u));
    return select(vec4(0.0), vec4(b[at.x], b[at.y], b[at.z], b[at.w]), token < params.tokens);
}

// Adds one block of sums: `sum[i][j]` belongs to row + i, column + j.
fn add(row: u32, column: u32, sum: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row + i;
            let c = column + j;
            if r < params.n && c < params.m {
                let at = r * params.m + c;
                let added = two_sum(totals[at], sum[i][j], params.zero);
                totals[at] = added.x;
                lost[at] += added.y;
            }
        }
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    let across = (params.m + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let row0 = item / across * TILE;
    let column0 = item % across * TILE;
    if row0 >= params.n || (params.upper == 1u && column0 < row0) {
        return;
    }
    let quad = (thread.y * SIDE + thread.x) % QUADS; // what it loads of every eighth token
    let token = (thread.y * SIDE + thread.x) / QUADS;
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    for (var first = 0u; first < params.tokens; first += DEPTH) {
        for (var t = token; t < DEPTH; t += SIDE * SIDE / QUADS) {
            a_tile[t * QUADS + quad] = a_at(first + t, row0 + 4u * quad);
            b_tile[t * QUADS + quad] = b_at(first + t, column0 + 4u * quad);
        }
        workgroupBarrier();
        for (var t = 0u; t < DEPTH; t++) {
            let x0 = a_tile[t * QUADS + thread.y];
            let x1 = a_tile[t * QUADS + SIDE + thread.y];
            let y0 = b_tile[t * QUADS + thread.x];
            let y1 = b_tile[t * QUADS + SIDE + thread.x];
            s00 += outer(x0, y0);
            s01 += outer(x0, y1);
            s10 += outer(x1, y0);
            s11 += outer(x1, y1);
        }
        workgroupBarrier();
    }
    let row = row0 + 4u * thread.y;
    let column = column0 + 4u * thread.x;
    add(row, column, s00);
    add(row, column + TILE / 2u, s01);
    add(row + TILE / 2u, column, s10);
    add(row + TILE / 2u, column + TILE / 2u, s11);
}
