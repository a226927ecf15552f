// gram_halves.wgsl on cooperative matrices. Totals wholly below the diagonal stay as they are in tiles of 128 x 128, also where
// a workgroup's tile is higher.
#import compensated
#import coop_halves

struct Params {
    tokens: u32,
    n: u32, // columns of x, a multiple of 8; tiles of 128 x 128 wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>; // x: [tokens, n] f16
@group(0) @binding(1) var<storage, read> b: array<vec2<u32>>; // x again
@group(0) @binding(2) var<storage, read> scales: array<vec4<f32>>; // [n], powers of two
@group(0) @binding(3) var<storage, read_write> totals: array<vec4<f32>>; // [n, n]
@group(0) @binding(4) var<storage, read_write> lost: array<vec4<f32>>; // [n, n]: what rounding the totals lost
@group(0) @binding(5) var<uniform> params: Params;

fn depth() -> u32 {
    return params.tokens;
}

fn rows() -> u32 {
    return params.n;
}

fn columns() -> u32 {
    return params.n;
}

fn left_out(row: u32, column: u32) -> bool {
    return column < row;
}

// Adds four sums of a row to the totals.
fn finish(row: u32, column: u32, sums: vec4<f32>) {
    if left_out(row / 128u * 128u, column) {
        return;
    }
    let at = row * (params.n / 4u) + column / 4u;
    let sum = sums * (scales[row / 4u][row % 4u] * scales[column / 4u]);
    let before = totals[at];
    let x = two_sum(before.x, sum.x, params.zero);
    let y = two_sum(before.y, sum.y, params.zero);
    let z = two_sum(before.z, sum.z, params.zero);
    let w = two_sum(before.w, sum.w, params.zero);
    totals[at] = vec4(x.x, y.x, z.x, w.x);
    lost[at] += vec4(x.y, y.y, z.y, w.y);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
