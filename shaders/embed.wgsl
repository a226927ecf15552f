// out[r] = table[ids[r]]. Halves are read as pairs from words: no f16 feature. One thread an element.
// Ids beyond the vocabulary take its last row; the host checks ids where they enter. The table may be some rows of the
// vocabulary's; rows of out whose ids are not among them are left alone.
#import index

struct Params {
    rows: u32,
    cols: u32,
    vocab: u32, // rows of the whole table
    part_first: u32, // of which these are the ones from here on
    part_rows: u32, // so many
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> ids: array<u32>; // [rows]
@group(0) @binding(1) var<storage, read> table: array<u32>; // [part_rows, cols] f32, f16 or bf16, rows from a word
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

fn element(row: u32, col: u32) -> f32 {
#ifdef w_f32
    return bitcast<f32>(table[row * params.cols + col]);
#else
    let word = table[row * ((params.cols + 1u) / 2u) + col / 2u];
#ifdef w_f16
    return unpack2x16float(word)[col % 2u];
#else
    return bitcast<f32>(select(word << 16u, word & 0xffff0000u, col % 2u == 1u));
#endif
#endif
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i >= params.rows * params.cols {
        return;
    }
    // Ids before the part wrap to beyond it.
    let id = min(ids[i / params.cols], params.vocab - 1u) - params.part_first;
    if id < params.part_rows {
        out[i] = element(id, i % params.cols);
    }
}
