// gram.wgsl of numbers that split_columns.wgsl has cut into two f16 each: totals += transpose(a) * b over the tokens of this
// launch. Here in f32, for what has no matrix units after all.
#import gram_tile

struct Params {
    tokens: u32,
    n: u32, // columns of a, a multiple of 8
    m: u32, // columns of b, likewise
    upper: u32, // 1: b is a, and tiles of 128 x 128 wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

@group(0) @binding(0) var<storage, read> a: array<u32>; // [2, tokens, n] f16: first bits, then the rest
@group(0) @binding(1) var<storage, read> a_scales: array<f32>; // [n], powers of two
@group(0) @binding(2) var<storage, read> b: array<u32>; // [2, tokens, m] f16, likewise
@group(0) @binding(3) var<storage, read> b_scales: array<f32>; // [m]
@group(0) @binding(4) var<storage, read_write> totals: array<f32>; // [n, m]
@group(0) @binding(5) var<storage, read_write> lost: array<f32>; // [n, m]: what rounding the totals lost
@group(0) @binding(6) var<uniform> params: Params;

// Beyond the last token or row any, as in gram.wgsl.
fn a_at(token: u32, row: u32) -> f32 {
    let at = min(token, params.tokens - 1u) * params.n + min(row, params.n - 1u);
    let rest = at + params.tokens * params.n;
    return unpack2x16float(a[at / 2u])[at % 2u] + unpack2x16float(a[rest / 2u])[at % 2u];
}

fn b_at(token: u32, column: u32) -> f32 {
    let at = min(token, params.tokens - 1u) * params.m + min(column, params.m - 1u);
    let rest = at + params.tokens * params.m;
    let value = unpack2x16float(b[at / 2u])[at % 2u] + unpack2x16float(b[rest / 2u])[at % 2u];
    return select(0.0, value, token < params.tokens);
}

fn factor(row: u32, column: u32) -> f32 {
    return a_scales[row] * b_scales[column];
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    product(workgroup, grid, thread);
}
