// Symmetric int8 codes of each row with a scale of its own: scale = max|x| / 127, code = round(x / scale), ties to
// even, within +-127 (dynamic per-token quantization; Yao et al. 2022, arXiv:2206.01861). A row whose largest value is
// below 1e-35 has scale 1 and codes 0. One workgroup a row; a thread takes every WG-th word of 4 codes. Any columns.
#import index
#import reduce

struct Params {
    rows: u32,
    cols: u32,
}

const WG = 64u;
const SMALLEST = 1e-35; // below, scale or its inverse would leave the range of normal floats

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

fn value(start: u32, col: u32) -> f32 {
    return select(x[start + min(col, params.cols - 1u)], 0.0, col >= params.cols);
}

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
    var largest = 0.0;
    for (var c = thread; c < params.cols; c += WG) {
        largest = max(largest, abs(x[start + c]));
    }
    largest = workgroup_max(largest, place);
    // A multiplication, since WGSL's division may be off by 2.5 ulp and the reference's scale must be the same.
    let scale = select(largest * (1.0 / 127.0), 1.0, largest < SMALLEST);
    let inverse = select(127.0 / largest, 0.0, largest < SMALLEST);
    let words = (params.cols + 3u) / 4u;
    for (var word = thread; word < words; word += WG) {
        let c = 4u * word;
        let v = vec4(value(start, c), value(start, c + 1u), value(start, c + 2u), value(start, c + 3u));
        let code = vec4<i32>(clamp(round(v * inverse), vec4(-127.0), vec4(127.0)));
        codes[row * words + word] = pack4xI8(code);
    }
    if thread == 0u {
        scales[row] = scale;
    }
}
