// Each f32 number x[t, c] as two f16 whose sum it is, for products on matrix units that take f16: the first 11 of its bits and
// the next 11 (as in Markidis et al. 2018, arXiv:1803.04014). Columns are scaled by powers of two, their largest number to
// 2^14 .. 2^15, so that neither large nor small columns leave the range of f16. What is below 2^-24 there, 2^-38 of the largest
// and less, is cut off.
// One workgroup: 64 columns. A thread: four columns of every 16th token.
struct Params {
    tokens: u32,
    n: u32, // columns, a multiple of 4
}

const QUADS = 16u; // of a workgroup's columns
const LANES = 16u; // threads a quad
const WG = QUADS * LANES;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [tokens, n]
@group(0) @binding(1) var<storage, read_write> halves: array<vec2<u32>>; // [2, tokens, n] f16: first bits, then the rest
@group(0) @binding(2) var<storage, read_write> scales: array<vec4<f32>>; // [n]: what their sum is times this is x
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> largest: array<vec4<f32>, WG>;

// As many bits as f16 has, above 2^-24. Cut off as integers: of x - f32(f16(x)) NVIDIA's compiler makes 0.
fn cut(x: vec4<f32>) -> vec4<f32> {
    let first = bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4(0xffffe000u));
    return trunc(first * 16777216.0) * 5.9604645e-8;
}

fn packed(x: vec4<f32>) -> vec2<u32> {
    return vec2(pack2x16float(x.xy), pack2x16float(x.zw));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let quads = params.n / 4u;
    let quad = min(workgroup.x * QUADS + thread % QUADS, quads - 1u);
    var most = vec4(0.0);
    for (var t = thread / QUADS; t < params.tokens; t += LANES) {
        most = max(most, abs(x[t * quads + quad]));
    }
    largest[thread] = most;
    workgroupBarrier();
    for (var lane = 0u; lane < LANES; lane++) {
        most = max(most, largest[lane * QUADS + thread % QUADS]);
    }
    // Biased exponents, so that what they belong to and its reciprocal are no subnormal numbers.
    let exponents = clamp(bitcast<vec4<u32>>(most) >> vec4(23u), vec4(15u), vec4(254u));
    let up = bitcast<vec4<f32>>((vec4(268u) - exponents) << vec4(23u));
    if workgroup.x * QUADS + thread % QUADS >= quads {
        return;
    }
    for (var t = thread / QUADS; t < params.tokens; t += LANES) {
        let number = x[t * quads + quad] * up;
        let near = cut(number);
        halves[t * quads + quad] = packed(near);
        halves[(params.tokens + t) * quads + quad] = packed(cut(number - near));
    }
    if thread < QUADS {
        scales[quad] = bitcast<vec4<f32>>((exponents - vec4(14u)) << vec4(23u));
    }
}
