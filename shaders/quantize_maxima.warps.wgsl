// quantize_maxima.wgsl by subgroups of 32 threads: each finds a row's largest by itself, so nobody waits for others.
#import index
#import int8_codes
#import warps

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
    for (var run = 0u; run < params.runs; run += 128u) {
        let at = row * params.runs + min(run + lane_of(place) + 32u * vec4(0u, 1u, 2u, 3u), vec4(params.runs - 1u));
        mine = max(max(mine, max(maxima[at.x], maxima[at.y])), max(maxima[at.z], maxima[at.w]));
    }
    let largest = warp_max(mine, place);
    if quad < quads {
        codes[row * quads + quad] = codes_of(value, inverse_of(largest));
    }
    if quad == 0u {
        scales[row] = scale_of(largest);
    }
}
