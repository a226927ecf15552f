// int8 codes (shared/int8_codes.wgsl), one scale a row, of rows whose largest magnitudes are known by runs of columns
// (hadamard_runs.wgsl). So a row may be spread over workgroups, each of which finds the scale again.
#import index
#import int8_codes
#import reduce

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4
    runs: u32, // maxima a row
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(1) var<storage, read> maxima: array<f32>; // [rows, runs]
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let quads = params.cols / 4u;
    let parts = (quads + WG - 1u) / WG;
    let item = linear_workgroup(workgroup, grid);
    let row = item / parts;
    if row >= params.rows {
        return;
    }
    let quad = item % parts * WG + place.thread;
    let value = x[row * quads + min(quad, quads - 1u)]; // under way while the maxima come
    var mine = 0.0;
    for (var run = place.thread; run < params.runs; run += WG) {
        mine = max(mine, maxima[row * params.runs + run]);
    }
    let largest = workgroup_max(mine, place);
    if quad < quads {
        codes[row * quads + quad] = codes_of(value, inverse_of(largest));
    }
    if quad == 0u {
        scales[row] = scale_of(largest);
    }
}
