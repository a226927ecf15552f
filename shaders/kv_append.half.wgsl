// kv_append.wgsl for caches of f16: a thread rounds two elements of a head, the last one of an odd head alone. As integers, to nearest,
// ties to even, finite numbers beyond the range to the last in it: WGSL leaves the rounding of pack2x16float open.
#import index
#import kv_codes

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
    k_offset: u32, // first column of k
    k_stride: u32, // columns of the tensor k is in
    v_offset: u32, // likewise
    v_stride: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> k: array<f32>; // [sequences * tokens, k_stride]
@group(0) @binding(1) var<storage, read> v: array<f32>; // [sequences * tokens, v_stride]
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> k_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f16, a head in whole words
@group(0) @binding(4) var<storage, read_write> v_cache: array<u32>; // likewise
@group(0) @binding(5) var<uniform> params: Params;

// Bits of the nearest f16.
fn half_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let size = bits & 0x7fffffffu;
    let finite = min(size, 0x477fe000u);
    let normal = (finite + 0xfffu + ((finite >> 13u) & 1u) - 0x38000000u) >> 13u;
    let small = u32(round(bitcast<f32>(min(size, 0x38800000u)) * 16777216.0)); // below 2^-14, in units of 2^-24
    var half = select(normal, small, size < 0x38800000u);
    half = select(half, select(0x7c00u, 0x7e00u, size > 0x7f800000u), size >= 0x7f800000u);
    return half | ((bits >> 16u) & 0x8000u);
}

fn halves_of(a: f32, b: f32, both: bool) -> u32 {
    return half_of(a) | select(0u, half_of(b) << 16u, both);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let words = row_words();
    let row = i / words; // of all tokens and heads
    let rows = params.tokens * params.kv_heads;
    let sequence = row / rows;
    if sequence >= params.sequences {
        return;
    }
    let before = cursor[sequence];
    let free = params.max - min(before, params.max);
    if row % rows < min(params.tokens, free) * params.kv_heads {
        let to = code_at((sequence * params.max + before) * params.kv_heads + row % rows, i % words);
        let first = i % words * 2u;
        let both = first + 1u < params.head_dim;
        let at = row % params.kv_heads * params.head_dim + first + vec2(0u, select(0u, 1u, both));
        let token = row / params.kv_heads;
        let k_at = params.k_offset + token * params.k_stride + at;
        let v_at = params.v_offset + token * params.v_stride + at;
        k_cache[to] = halves_of(k[k_at.x], k[k_at.y], both);
        v_cache[to] = halves_of(v[v_at.x], v[v_at.y], both);
    }
}
