// rms_norm_quantize.wgsl of rows with one scale each, by subgroups of 32 threads: the norm's factor is one for the row, so the codes of v are
// those of x * weight, and threads wait for each other once, for the sum of squares and the largest at the same time.
#import index
#import spans
#import stream
#import warps

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to two spans
    group: u32, // columns a scale; a multiple of 4, or cols
    eps: f32,
    slices: u32, // of sums to be added to x first
}

const WG = 256u;
const WARPS = WG / 32u;

@group(0) @binding(0) var<storage, read> sums: array<vec4<f32>>; // [slices, rows, cols]; untouched where there are none
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // [cols]
@group(0) @binding(2) var<storage, read_write> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(3) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> found: array<vec2<f32>, WARPS>; // of each subgroup: sum of squares, largest of x * weight

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
    let v_low = times(x_low, w_low);
    let v_high = times(x_high, w_high);
    let both = squares(x_low, low) + squares(x_high, high);
    let mine = max(tops(v_low, low), tops(v_high, high));
    let sum = warp_sum(dot(both, vec4(1.0)), place);
    found[warp_of(place)] = vec2(sum, warp_max(max(max(mine.x, mine.y), max(mine.z, mine.w)), place));
    workgroupBarrier();
    keep(start, low, x_low);
    keep(start, high, x_high);
    var all = found[0];
    for (var i = 1u; i < WARPS; i++) {
        all = vec2(all.x + found[i].x, max(all.y, found[i].y));
    }
    let scale = inverseSqrt(all.x / f32(params.cols) + params.eps);
    // `group` is all columns.
    let largest = all.y * scale;
    let inverse = vec4(inverse_of(largest) * scale);
    put_codes(row, low, v_low, inverse);
    put_codes(row, high, v_high, inverse);
    if place.thread == 0u {
        scales[row * (params.cols / params.group)] = scale_of(largest);
    }
}
