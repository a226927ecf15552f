// out = code * scale of the code's group. A thread takes one word of codes (int8 or int4, the format word) and writes
// its 4 or 8 values. Any rows, columns and group.
#import index
#import pack

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale, at most cols
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [rows, cols] int8 or int4
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [rows, groups]
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

#ifdef int8
const CODES = 4u; // a word
#else
const CODES = 8u;
#endif

fn write(row: u32, col: u32, code: i32) {
    if col < params.cols {
        let groups = (params.cols + params.group - 1u) / params.group;
        out[row * params.cols + col] = f32(code) * scales[row * groups + col / params.group];
    }
}

fn write4(row: u32, col: u32, code: vec4<i32>) {
    write(row, col, code.x);
    write(row, col + 1u, code.y);
    write(row, col + 2u, code.z);
    write(row, col + 3u, code.w);
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
    write4(row, col, codes8(codes[word]));
#else
    write4(row, col, codes4_low(codes[word]));
    write4(row, col + 4u, codes4_high(codes[word]));
#endif
}
