// Symmetric int8 codes under scales that are given: code = round(x / scale), ties to even; what lies beyond 127 scales
// saturates (static quantization, Jacob et al. 2017, arXiv:1712.05877). Every row gets a copy of the scales, so that
// products take them as they take those of quantize_tokens. One thread a word of 4 codes, all of one group.
#import index

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale; a multiple of 4, or cols
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read> given: array<f32>; // [groups]
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(4) var<uniform> params: Params;

fn value(start: u32, col: u32) -> f32 {
    return select(x[start + min(col, params.cols - 1u)], 0.0, col >= params.cols);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let words = (params.cols + 3u) / 4u;
    let word = linear_workgroup(workgroup, grid) * WG + thread;
    if word >= params.rows * words {
        return;
    }
    let row = word / words;
    let c = word % words * 4u;
    let group = c / params.group;
    let start = row * params.cols;
    let scale = given[group];
    let v = vec4(value(start, c), value(start, c + 1u), value(start, c + 2u), value(start, c + 3u));
    let code = vec4<i32>(clamp(round(v * (1.0 / scale)), vec4(-127.0), vec4(127.0)));
    codes[word] = pack4xI8(code);
    if c == group * params.group {
        scales[row * ((params.cols + params.group - 1u) / params.group) + group] = scale;
    }
}
