// out[r] = codes[ids[r]] * scales[ids[r]], int8 rows with a scale each. One thread a word of four codes.
// Ids beyond the vocabulary take its last row; the host checks ids where they enter. The table may be some rows of the
// vocabulary's; rows of out whose ids are not among them are left alone.
#import index
#import pack

struct Params {
    rows: u32,
    cols: u32,
    vocab: u32, // rows of the whole table
    part_first: u32, // of which these are the ones from here on
    part_rows: u32, // so many
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> ids: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read> codes: array<u32>; // [part_rows, cols] int8, rows from a word
@group(0) @binding(2) var<storage, read> scales: array<f32>; // [part_rows]
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let words = (params.cols + 3u) / 4u;
    let row = i / words;
    if row >= params.rows {
        return;
    }
    // Ids before the part wrap to beyond it.
    let id = min(ids[row], params.vocab - 1u) - params.part_first;
    if id >= params.part_rows {
        return;
    }
    let word = i % words;
    let values = vec4<f32>(codes8(codes[id * words + word])) * scales[id];
    let first = row * params.cols + word * 4u;
    let count = min(params.cols - word * 4u, 4u);
    for (var k = 0u; k < count; k += 1u) {
        out[first + k] = values[k];
    }
}
