// Means of second moments in a given order of their columns, out of totals of which only the upper half is there; or the diagonal
// alone. One thread: an element.
#import index

struct Params {
    n: u32,
    diagonal: u32, // out is [n]
    scale: f32, // what the sums are multiplied with
    added: f32, // to the diagonal
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> totals: array<f32>; // [n, n]
@group(0) @binding(1) var<storage, read> order: array<u32>; // [n]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [n, n], or [n]
@group(0) @binding(3) var<uniform> params: Params;

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
    let at = min(i, j) * params.n + max(i, j);
    out[line * params.n + column] = totals[at] * params.scale + select(0.0, params.added, place == column);
}
