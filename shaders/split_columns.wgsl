// Each f32 number x[t, c] as two f16, or rounded to one, for products on matrix units that take f16: shared/halves_of.wgsl. A
// scale a column.
// One workgroup: 64 columns. A thread: four columns of every 16th token.
#import halves_of
#import index

struct Params {
    tokens: u32,
    n: u32, // columns, a multiple of 4
    parts: u32, // 2, or 1: rounded to the first bits
}

const QUADS = 16u; // of a workgroup's columns
const LANES = 16u; // threads a quad
const WG = QUADS * LANES;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [tokens, n]
@group(0) @binding(1) var<storage, read_write> halves: array<vec2<u32>>; // [parts, tokens, n] f16: first bits, then the rest
@group(0) @binding(2) var<storage, read_write> scales: array<vec4<f32>>; // [n]: what their sum is times this is x
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> largest: array<vec4<f32>, WG>;

// To the nearest f16, halves away from 0.
fn nearest(x: vec4<f32>) -> vec4<f32> {
    return cut(bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) + vec4(0x1000u)));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let quads = params.n / 4u;
    let own = linear_workgroup(workgroup, grid) * QUADS + thread % QUADS;
    let quad = min(own, quads - 1u);
    var most = vec4(0.0);
    for (var t = thread / QUADS; t < params.tokens; t += LANES) {
        most = max(most, abs(x[t * quads + quad]));
    }
    largest[thread] = most;
    workgroupBarrier();
    for (var lane = 0u; lane < LANES; lane++) {
        most = max(most, largest[lane * QUADS + thread % QUADS]);
    }
    let exponents = exponents_of(most);
    let up = up_of(exponents);
    if own >= quads {
        return;
    }
    for (var t = thread / QUADS; t < params.tokens; t += LANES) {
        let number = x[t * quads + quad] * up;
        let near = cut(number);
        if params.parts == 2u {
            halves[t * quads + quad] = packed(near);
            halves[(params.tokens + t) * quads + quad] = packed(cut(number - near));
        } else {
            halves[t * quads + quad] = packed(nearest(number));
        }
    }
    if thread < QUADS {
        scales[quad] = down_of(exponents);
    }
}
