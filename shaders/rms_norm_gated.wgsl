// v = y * silu(z); out = v / sqrt(mean(v^2 over the group) + eps) * weight (Mamba-2, arXiv:2405.21060; gate first).
// z are columns offset.. of a wider tensor. One workgroup a group of a row; a thread takes every WG-th column
// and computes v twice rather than keep it: groups have any size.
#import float
#import index
#import reduce

struct Params {
    rows: u32,
    groups: u32, // of a row
    group_size: u32, // columns of a group
    gate_stride: u32, // elements from a row of the gate's tensor to the next
    gate_offset: u32, // its first column
    eps: f32,
}

const WG = 128u;

@group(0) @binding(0) var<storage, read> y: array<u32>; // [rows, groups * group_size] f32 or f16
@group(0) @binding(1) var<storage, read> gate: array<f32>; // [rows, gate_stride]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [groups * group_size]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, groups * group_size]
@group(0) @binding(4) var<uniform> params: Params;

fn value(i: u32) -> f32 {
#ifdef half
    return unpack2x16float(y[i / 2u])[i % 2u];
#else
    return bitcast<f32>(y[i]);
#endif
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let index = linear_workgroup(workgroup, grid);
    if index >= params.rows * params.groups {
        return;
    }
    let column = (index % params.groups) * params.group_size;
    let start = index * params.group_size;
    let gate_start = (index / params.groups) * params.gate_stride + params.gate_offset + column;
    var squares = 0.0;
    for (var c = thread; c < params.group_size; c += WG) {
        let v = value(start + c) * silu(gate[gate_start + c]);
        squares += v * v;
    }
    let scale = inverseSqrt(workgroup_sum(squares, place) / f32(params.group_size) + params.eps);
    for (var c = thread; c < params.group_size; c += WG) {
        out[start + c] = value(start + c) * silu(gate[gate_start + c]) * scale * weight[column + c];
    }
}
