// out[r, g] = the largest |x[r, c]| of group g, `group` consecutive columns; the last group may be shorter. 8 threads
// an output, so that long groups are read together and short ones do not waste a workgroup. Any rows and columns.
#import index

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns an output, at most cols
}

const WG = 64u;
const LANES = 8u; // threads an output

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [rows, groups]
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> largest: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let groups = (params.cols + params.group - 1u) / params.group;
    let first = linear_workgroup(workgroup, grid) * (WG / LANES);
    let output = first + thread / LANES;
    if output < params.rows * groups {
        let start = (output % groups) * params.group;
        let row = output / groups * params.cols;
        var m = 0.0;
        for (var c = start + thread % LANES; c < min(start + params.group, params.cols); c += LANES) {
            m = max(m, abs(x[row + c]));
        }
        largest[thread] = m;
    }
    workgroupBarrier();
    if thread < WG / LANES && first + thread < params.rows * groups {
        var m = 0.0;
        for (var i = 0u; i < LANES; i++) {
            m = max(m, largest[thread * LANES + i]);
        }
        out[first + thread] = m;
    }
}
