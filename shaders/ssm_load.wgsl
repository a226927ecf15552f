// f32 state from its stored form: int8 codes with a scale for each row (head, p), taken at the last rounding, and the
// tokens since (shared/recent.wgsl), with what that rounding lost where it was kept (ssm_store): S[row] = exp(L) / sqrt(block) D H (scale codes) + sum over j of exp(L - L_j) x_j B_j
// with L_j the sum of dt A up to token j and L the last one's. D H: Hadamard's matrix on runs of the state axis and
// signs, which leave it exact, as A is one number a head. state is a multiple of 4, at most 256. One workgroup a row.
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
    feedback: u32, // 1 where errors are kept
}

const WG = 64u;
const LINES = 1u;

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [heads * head_dim, state] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [heads * head_dim]
@group(0) @binding(2) var<storage, read> recent: array<f32>; // [window, heads + heads * head_dim + groups * state]
@group(0) @binding(3) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens
@group(0) @binding(4) var<storage, read> errors: array<u32>; // [heads * head_dim, state] int4, in 14ths of a step
@group(0) @binding(5) var<storage, read_write> out: array<f32>; // [heads, head_dim * state]
@group(0) @binding(6) var<uniform> params: Params;

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
        var code = vec4<f32>(codes8(codes[row * words + word]));
        if params.feedback > 0u {
            let lost = errors[row * ((words + 1u) / 2u) + word / 2u];
            code += vec4<f32>(select(codes4_low(lost), codes4_high(lost), word % 2u == 1u)) / 14.0;
        }
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
        var value = scale * sign_at(n, params.block) * line[n];
        for (var j = 0u; j < tokens; j++) {
            value += exp(now - recent_log(j, head)) * recent_x(j, row) * recent_b(j, b_at + n);
        }
        out[row * params.state + n] = value;
    }
}
