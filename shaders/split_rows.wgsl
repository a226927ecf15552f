// Each number x[r, k] as two f16, or as one where it has no more bits, for products on matrix units that take f16:
// shared/halves_of.wgsl. A scale a row, and the halves transposed, as such products read them.
// One workgroup: 16 rows. To find the largest numbers 16 threads a row; then, 64 k at a time, a thread reads numbers of a row
// and writes a k of two rows.
#import halves_of
#import index

struct Params {
    rows: u32, // a multiple of 8
    k: u32,
    parts: u32, // 2, or 1: the first bits alone
}

const ROWS = 16u;
const LANES = 16u; // threads a row
const WG = ROWS * LANES;
const DEPTH = 64u; // of k at a time
const PITCH = DEPTH + 1u;

@group(0) @binding(0) var<storage, read> x: array<u32>; // [rows, k], rows start at words
@group(0) @binding(1) var<storage, read_write> halves: array<u32>; // [parts, k, rows] f16: first bits, then the rest
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]: what their sum is times this is x
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> largest: array<f32, WG>;
var<workgroup> tile: array<f32, ROWS * PITCH>; // [row, k]

// Rows beyond the end are the last again.
fn number(row: u32, k: u32) -> f32 {
    let r = min(row, params.rows - 1u);
#ifdef w_f32
    return bitcast<f32>(x[r * params.k + k]);
#else
    let word = x[r * ((params.k + 1u) / 2u) + k / 2u];
#ifdef w_f16
    return unpack2x16float(word)[k % 2u];
#else
    return bitcast<f32>(select(word & 0xffff0000u, word << 16u, k % 2u == 0u));
#endif
#endif
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row0 = linear_workgroup(workgroup, grid) * ROWS;
    let own = row0 + thread / LANES;
    var most = 0.0;
    for (var k = thread % LANES; k < params.k; k += LANES) {
        most = max(most, abs(number(own, k)));
    }
    largest[thread] = most;
    workgroupBarrier();
    for (var lane = 0u; lane < LANES; lane++) {
        most = max(most, largest[thread / LANES * LANES + lane]);
    }
    let exponents = exponents_of(vec4(most));
    let up = up_of(exponents).x;
    if thread % LANES == 0u && own < params.rows {
        scales[own] = down_of(exponents).x;
    }
    let pair = thread % (ROWS / 2u); // of rows
    for (var first = 0u; first < params.k; first += DEPTH) {
        for (var i = thread % LANES; i < DEPTH; i += LANES) {
            tile[thread / LANES * PITCH + i] = number(own, min(first + i, params.k - 1u)) * up;
        }
        workgroupBarrier();
        for (var i = thread / (ROWS / 2u); i < DEPTH; i += WG / (ROWS / 2u)) {
            let k = first + i;
            if k < params.k && row0 + 2u * pair < params.rows {
                let numbers = vec4(tile[2u * pair * PITCH + i], tile[(2u * pair + 1u) * PITCH + i], 0.0, 0.0);
                let near = cut(numbers);
                let at = (k * params.rows + row0) / 2u + pair;
                halves[at] = packed(near).x;
                if params.parts == 2u {
                    halves[at + params.k * params.rows / 2u] = packed(cut(numbers - near)).x;
                }
            }
        }
        workgroupBarrier();
    }
}
