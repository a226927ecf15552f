// gram.wgsl of one matrix with itself, of numbers that split_columns.wgsl has rounded to one f16 each: totals += transpose(x) * x
// over the tokens of this launch. Here in f32, for what has no matrix units after all.
#import gram_tile

struct Params {
    tokens: u32,
    n: u32, // columns of x, a multiple of 8; tiles of 128 x 128 wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

@group(0) @binding(0) var<storage, read> a: array<u32>; // x: [tokens, n] f16
@group(0) @binding(1) var<storage, read> b: array<u32>; // x again: the form on matrices reads it in other words
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [n], powers of two
@group(0) @binding(3) var<storage, read_write> totals: array<f32>; // [n, n]
@group(0) @binding(4) var<storage, read_write> lost: array<f32>; // [n, n]: what rounding the totals lost
@group(0) @binding(5) var<uniform> params: Params;

fn rows() -> u32 {
    return params.n;
}

fn columns() -> u32 {
    return params.n;
}

fn left_out(row: u32, column: u32) -> bool {
    return column < row;
}

// Beyond the last token or row any, as in gram.wgsl.
fn a_at(token: u32, row: u32) -> f32 {
    let at = min(token, params.tokens - 1u) * params.n + min(row, params.n - 1u);
    return unpack2x16float(a[at / 2u])[at % 2u];
}

fn b_at(token: u32, column: u32) -> f32 {
    let at = min(token, params.tokens - 1u) * params.n + min(column, params.n - 1u);
    return select(0.0, unpack2x16float(b[at / 2u])[at % 2u], token < params.tokens);
}

fn factor(row: u32, column: u32) -> f32 {
    return scales[row] * scales[column];
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    product(workgroup, grid, thread);
}
