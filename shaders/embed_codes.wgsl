// out[r] = codes[ids[r]] times the scales of their groups. One thread a word of codes (int8 or int4, the format word).
// Ids beyond the vocabulary take its last row; the host checks ids where they enter. The table may be some rows of the
// vocabulary's; rows of out whose ids are not among them are left alone.
#import index
#import pack
#import weight_scale

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale, at most cols
    scale_bits: u32, // of a scale: 16 or 32
    vocab: u32, // rows of the whole table
    part_first: u32, // of which these are the ones from here on
    part_rows: u32, // so many
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> ids: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read> codes: array<u32>; // [part_rows, cols] int8 or int4, rows from a word
@group(0) @binding(2) var<storage, read> weight_scales: array<u32>; // [ceil(part_rows / 4), groups, 4] bf16 or f32
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(4) var<uniform> params: Params;

#ifdef int8
const CODES = 4u; // a word
#else
const CODES = 8u;
#endif

// Four codes of row `id` of the table to columns `col`.. of a row of out.
fn write4(row: u32, col: u32, id: u32, code: vec4<i32>) {
    let groups = (params.cols + params.group - 1u) / params.group;
    for (var k = 0u; k < 4u; k++) {
        if col + k < params.cols {
            out[row * params.cols + col + k] = f32(code[k]) * one_scale(id, groups, (col + k) / params.group);
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let words = (params.cols + CODES - 1u) / CODES;
    let row = i / words;
    if row >= params.rows {
        return;
    }
    // Ids before the part wrap to beyond it.
    let id = min(ids[row], params.vocab - 1u) - params.part_first;
    if id >= params.part_rows {
        return;
    }
    let word = codes[id * words + i % words];
    let col = i % words * CODES;
#ifdef int8
    write4(row, col, id, codes8(word));
#else
    write4(row, col, id, codes4_low(word));
    write4(row, col + 4u, id, codes4_high(word));
#endif
}
