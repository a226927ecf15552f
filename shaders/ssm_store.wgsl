// The stored form of a state: rows (head, p) turned by Hadamard's matrix with signs on runs of the state axis
// (shared/fwht.wgsl), then int8 codes with a scale for each row: scale = max|v| / 127. Formats: `nearest` rounds v / scale,
// ties to even; `stochastic` takes floor(v / scale + u), u uniform in [0, 1) and the same on every device: a hash of seed,
// token and element (Gupta et al. 2015, arXiv:1502.02551). What rounding to nearest loses may be kept, in 14ths of a step,
// for ssm_load to add before the next rounding: what decays slowly would else lose all that comes in less than half
// steps. A row below 1e-35 has scale 1 and codes 0. One workgroup a row.
#import fwht
#import index
#import rounded

struct Params {
    rows: u32, // heads * head_dim
    state: u32, // a multiple of 4, at most 256
    block: u32, // run of the Hadamard transform; 1: none
    seed: u32,
    feedback: u32, // 1 to keep errors
}

const WG = 64u;
const LINES = 1u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [heads, head_dim * state]
@group(0) @binding(1) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens
@group(0) @binding(2) var<storage, read_write> codes: array<u32>; // [rows, state] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(4) var<storage, read_write> errors: array<u32>; // [rows, state] int4; else not written
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> largest: array<f32, WG>;

// Stores a word of codes; returns what they lose, in 14ths of a step.
fn put(row: u32, word: u32, inverse: f32, key: u32) -> u32 {
    let at = 4u * word;
    let v = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]) * inverse;
    let code = rounded(v, row * params.state + at + key);
    codes[row * (params.state / 4u) + word] = word_of(code);
    return lost_of(v, code);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * params.state;
    for (var n = thread; n < params.state; n += WG) {
        line[n] = sign_at(n, params.block) * x[start + n];
    }
    transform_line(params.state, params.block, thread);
    var top = 0.0;
    for (var n = thread; n < params.state; n += WG) {
        top = max(top, abs(line[n]));
    }
    largest[thread] = top;
    workgroupBarrier();
    for (var i = 0u; i < WG; i++) {
        top = max(top, largest[i]);
    }
    let tiny = top < SMALLEST;
    let inverse = select(127.0 / top, 0.0, tiny);
    let key = hash(clock[0] + hash(params.seed));
    let words = params.state / 4u;
    let pairs = (words + 1u) / 2u;
    for (var pair = thread; pair < pairs; pair += WG) {
        let low = put(row, 2u * pair, inverse, key);
        var high = 0u;
        if 2u * pair + 1u < words {
            high = put(row, 2u * pair + 1u, inverse, key);
        }
        if params.feedback > 0u {
            errors[row * pairs + pair] = pack_nibbles(low, high);
        }
    }
    if thread == 0u {
        // A multiplication, as in quantize_tokens.
        scales[row] = select(top * (1.0 / 127.0) / sqrt(f32(params.block)), 1.0, tiny);
    }
}
