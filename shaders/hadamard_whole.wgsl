// A whole Hadamard transform, both of its factors: out = unit * (H_order (x) H_256) x over rows of order * 256 columns. One
// workgroup a row.
#import index
#import mixed_runs

struct Params {
    rows: u32,
    order: u32, // runs of 256 columns, at most 84
    unit: f32, // scale of the transform
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    load_column(row, thread);
    for (var part = 0u; part < (params.order + 15u) / 16u; part++) {
        let m = transformed(part, thread) * params.unit;
        let run = 16u * part + thread / 16u;
        if run < params.order {
            let at = (row * params.order + run) * (RUN / 4u) + thread % 16u * 4u;
            out[at] = m[0];
            out[at + 1u] = m[1];
            out[at + 2u] = m[2];
            out[at + 3u] = m[3];
        }
    }
}
