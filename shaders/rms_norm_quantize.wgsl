// RMS norm (arXiv:1910.07467) of the stream (shared/stream.wgsl) and int8 codes of what it gives (shared/int8_codes.wgsl), which is not kept:
// v = x / sqrt(mean(x^2) + eps) * weight, codes and scales of v. One workgroup a row, which it holds in registers.
#import held_row
#import index
#import stream

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to two spans
    group: u32, // columns a scale; a multiple of 4, or cols
    eps: f32,
    slices: u32, // of sums to be added to x first
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> sums: array<vec4<f32>>; // [slices, rows, cols]; untouched where there are none
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // [cols]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

fn weights(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * row_quads();
    let low = spots(0u, place.thread);
    let high = spots(1u, place.thread);
    let x_low = inputs(start, clamped(low));
    let w_low = weights(clamped(low));
    var x_high = mat4x4<f32>();
    var w_high = mat4x4<f32>();
    if row_quads() > 1024u {
        x_high = inputs(start, clamped(high));
        w_high = weights(clamped(high));
    }
    let all = squares(x_low, low) + squares(x_high, high);
    let sum = workgroup_sum(dot(all, vec4(1.0)), place);
    keep(start, low, x_low);
    keep(start, high, x_high);
    let scale = inverseSqrt(sum / f32(params.cols) + params.eps);
    quantize_held(row, Held(times(x_low * scale, w_low), times(x_high * scale, w_high), mat4x4<f32>()), place);
}
