// sums += transpose(a) * b over the tokens of this launch: second moments of activations, for GPTQ (Frantar et al.
// 2022, arXiv:2210.17323). Totals are compensated (Knuth's TwoSum), as a calibration adds up thousands of launches.
// One workgroup: 64 rows by 64 columns. A thread: rows and columns 8 apart, 8 of each.
#import compensated
#import index

struct Params {
    tokens: u32,
    n: u32, // columns of a
    m: u32, // columns of b
    zero: u32, // always 0, which no compiler knows
}

const SIDE = 8u;
const TILE = 64u;

@group(0) @binding(0) var<storage, read> a: array<f32>; // [tokens, n]
@group(0) @binding(1) var<storage, read> b: array<f32>; // [tokens, m]
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [2 * n, m]: totals, then what they lost
@group(0) @binding(3) var<uniform> params: Params;

fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(x.x * y, x.y * y, x.z * y, x.w * y);
}

// Adds one block of sums: `sum[i][j]` belongs to row + 8 i, column + 8 j.
fn add(row: u32, column: u32, sum: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row + SIDE * i;
            let c = column + SIDE * j;
            if r < params.n && c < params.m {
                let at = r * params.m + c;
                let added = two_sum(sums[at], sum[i][j], params.zero);
                sums[at] = added.x;
                sums[at + params.n * params.m] += added.y;
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
    let row = item / across * TILE + thread.y;
    let column = item % across * TILE + thread.x;
    if row >= params.n {
        return;
    }
    let steps = vec4(0u, SIDE, 2u * SIDE, 3u * SIDE);
    let r0 = min(row + steps, vec4(params.n - 1u));
    let r1 = min(row + 4u * SIDE + steps, vec4(params.n - 1u));
    let c0 = min(column + steps, vec4(params.m - 1u));
    let c1 = min(column + 4u * SIDE + steps, vec4(params.m - 1u));
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    for (var t = 0u; t < params.tokens; t++) {
        let i0 = t * params.n + r0;
        let i1 = t * params.n + r1;
        let j0 = t * params.m + c0;
        let j1 = t * params.m + c1;
        let x0 = vec4(a[i0.x], a[i0.y], a[i0.z], a[i0.w]);
        let x1 = vec4(a[i1.x], a[i1.y], a[i1.z], a[i1.w]);
        let y0 = vec4(b[j0.x], b[j0.y], b[j0.z], b[j0.w]);
        let y1 = vec4(b[j1.x], b[j1.y], b[j1.z], b[j1.w]);
        s00 += outer(x0, y0);
        s01 += outer(x0, y1);
        s10 += outer(x1, y0);
        s11 += outer(x1, y1);
    }
    add(row, column, s00);
    add(row, column + 4u * SIDE, s01);
    add(row + 4u * SIDE, column, s10);
    add(row + 4u * SIDE, column + 4u * SIDE, s11);
}
