// code = round(w / scale), ties to even, within +-127 (int8) or +-7 (int4): round to nearest with given scales (the
// formulas of Jacob et al. 2017, arXiv:1712.05877, symmetric). Scale 0 gives code 0. A thread makes one word of codes.
#import index
#import pack

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale, at most cols
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> w: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [rows, groups]
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [rows, cols] int8 or int4
@group(0) @binding(3) var<uniform> params: Params;

#ifdef int8
const MOST = 127.0;
const CODES = 4u; // a word
#else
const MOST = 7.0;
const CODES = 8u;
#endif

fn code(row: u32, col: u32) -> i32 {
    if col >= params.cols {
        return 0; // padding
    }
    let groups = (params.cols + params.group - 1u) / params.group;
    let scale = scales[row * groups + col / params.group];
    if scale == 0.0 {
        return 0;
    }
    return i32(clamp(round(w[row * params.cols + col] / scale), -MOST, MOST));
}

fn four(row: u32, col: u32) -> u32 {
    return pack4xI8(vec4(code(row, col), code(row, col + 1u), code(row, col + 2u), code(row, col + 3u)));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let words = (params.cols + CODES - 1u) / CODES;
    let word = linear_workgroup(workgroup, grid) * WG + thread;
    if word >= params.rows * words {
        return;
    }
    let row = word / words;
    let col = word % words * CODES;
#ifdef int8
    codes[word] = four(row, col);
#else
    codes[word] = pack_nibbles(four(row, col), four(row, col + 4u));
#endif
}
