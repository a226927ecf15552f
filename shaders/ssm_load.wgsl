// f32 state from its stored form: int8 codes with a scale for each row (head, p), taken at the last rounding, and the
// tokens since (shared/recent.wgsl): S[row] = exp(L) / sqrt(block) H (scale codes) + sum over j of exp(L - L_j) x_j B_j
// with L_j the sum of dt A up to token j and L the last one's. H: Hadamard's matrix on runs of the state axis, which
// it leaves exact, as A is one number a head. state is a multiple of 4, at most 256. One workgroup a row.
#import fwht
#import index
#import pack
#import recent

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32,
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [heads * head_dim, state] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [heads * head_dim]
@group(0) @binding(2) var<storage, read> recent: array<f32>; // [window, heads + heads * head_dim + groups * state]
@group(0) @binding(3) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [heads, head_dim * state]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.heads * params.head_dim {
        return;
    }
    let head = row / params.head_dim;
    let b_at = head / (params.heads / params.groups) * params.state;
    let tokens = min(clock[1], params.window);
    let words = params.state / 4u;
    for (var word = thread; word < words; word += WG) {
        let code = vec4<f32>(codes8(codes[row * words + word]));
        line[4u * word] = code.x;
        line[4u * word + 1u] = code.y;
        line[4u * word + 2u] = code.z;
        line[4u * word + 3u] = code.w;
    }
    transform_line(params.state, params.block, thread);
    var now = 0.0;
    if tokens > 0u {
        now = recent_log(tokens - 1u, head);
    }
    let scale = scales[row] * exp(now) / sqrt(f32(params.block));
    for (var n = thread; n < params.state; n += WG) {
        var value = scale * line[n];
        for (var j = 0u; j < tokens; j++) {
            value += exp(now - recent_log(j, head)) * recent_x(j, row) * recent_b(j, b_at + n);
        }
        out[row * params.state + n] = value;
    }
}
