// out = x / sqrt(mean(x^2) + eps) * weight, over each row (Zhang & Sennrich 2019, arXiv:1910.07467).
// One workgroup a row; a thread takes every WG-th column. Any number of columns.
#import index
#import reduce

struct Params {
    rows: u32,
    cols: u32,
    eps: f32,
}

const WG = 128u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [cols]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * params.cols;
    var squares = 0.0;
    for (var c = thread; c < params.cols; c += WG) {
        let v = x[start + c];
        squares += v * v;
    }
    let scale = inverseSqrt(workgroup_sum(squares, place) / f32(params.cols) + params.eps);
    for (var c = thread; c < params.cols; c += WG) {
        out[start + c] = x[start + c] * scale * weight[c];
    }
}
