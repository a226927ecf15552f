// Means of second moments in a given order of their columns, out of sums that gram.wgsl made: of `own`, of which only the
// upper half is there, or of `cross - own`; or the diagonal alone. One thread: an element.
#import index

struct Params {
    n: u32,
    across: u32, // of cross - own
    diagonal: u32, // out is [n]
    scale: f32, // what the sums are multiplied with
    added: f32, // to the diagonal
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> own: array<f32>; // [n, n] totals
@group(0) @binding(1) var<storage, read> own_lost: array<f32>; // [n, n]: what rounding them lost
@group(0) @binding(2) var<storage, read> cross: array<f32>; // [n, n] totals of two matrices
@group(0) @binding(3) var<storage, read> cross_lost: array<f32>; // [n, n]
@group(0) @binding(4) var<storage, read> order: array<u32>; // [n]
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [n, n], or [n]
@group(0) @binding(6) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let parts = (params.n + WG - 1u) / WG;
    let item = linear_workgroup(workgroup, grid);
    let line = item / parts;
    let column = item % parts * WG + thread;
    if column >= params.n || line >= select(params.n, 1u, params.diagonal == 1u) {
        return;
    }
    let place = select(line, column, params.diagonal == 1u);
    let i = order[place];
    let j = order[column];
    let here = min(i, j) * params.n + max(i, j);
    var sum = own[here] + own_lost[here];
    if params.across == 1u {
        let there = i * params.n + j;
        // Two near numbers: what rounding lost of each shows in their difference.
        sum = (cross[there] - own[here]) + (cross_lost[there] - own_lost[here]);
    }
    out[line * params.n + column] = sum * params.scale + select(0.0, params.added, place == column);
}
