// entering[c] = state before chunk c, by S = exp(da[last of c]) S + states[c]; ssm_state = S after the last chunk
// (Dao & Gu 2024, arXiv:2405.21060). One thread four elements of the state; chunks in turn.
#import index

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    state: u32,
    chunk: u32,
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> states: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(1) var<storage, read> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(2) var<storage, read_write> ssm_state: array<vec4<f32>>; // [heads, head_dim * state]
@group(0) @binding(3) var<storage, read_write> entering: array<vec4<f32>>; // [chunks, heads * head_dim * state]
@group(0) @binding(4) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let of_head = params.head_dim * params.state / 4u;
    let count = params.heads * of_head;
    if i >= count {
        return;
    }
    let head = i / of_head;
    var value = ssm_state[i];
    var at = i;
    for (var first = 0u; first < params.tokens; first += params.chunk) {
        let last = min(first + params.chunk, params.tokens) - 1u;
        entering[at] = value;
        value = exp(da_cumsum[head * params.tokens + last]) * value + states[at];
        at += count;
    }
    ssm_state[i] = value;
}
