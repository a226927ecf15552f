// totals += transpose(a) * b over the tokens of this launch: second moments of activations, for GPTQ (Frantar et al.
// 2022, arXiv:2210.17323). Totals are compensated (Knuth's TwoSum).
#import gram_tile

struct Params {
    tokens: u32,
    n: u32, // columns of a
    m: u32, // columns of b
    upper: u32, // 1: b is a, and tiles wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

@group(0) @binding(0) var<storage, read> a: array<f32>; // [tokens, n]
@group(0) @binding(1) var<storage, read> b: array<f32>; // [tokens, m]
@group(0) @binding(2) var<storage, read_write> totals: array<f32>; // [n, m]
@group(0) @binding(3) var<storage, read_write> lost: array<f32>; // [n, m]: what rounding the totals lost
@group(0) @binding(4) var<uniform> params: Params;

fn rows() -> u32 {
    return params.n;
}

fn columns() -> u32 {
    return params.m;
}

fn left_out(row: u32, column: u32) -> bool {
    return params.upper == 1u && column < row;
}

// Beyond the last token or row any; beyond the last token b is 0, and rows and columns beyond the end are not stored.
fn a_at(token: u32, row: u32) -> f32 {
    return a[min(token, params.tokens - 1u) * params.n + min(row, params.n - 1u)];
}

fn b_at(token: u32, column: u32) -> f32 {
    let value = b[min(token, params.tokens - 1u) * params.m + min(column, params.m - 1u)];
    return select(0.0, value, token < params.tokens);
}

fn factor(row: u32, column: u32) -> f32 {
    return 1.0;
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    product(workgroup, grid, thread);
}
