// One token of each sequence of the recurrence on a stored state (shared/stored_update.wgsl).
#import index
#import stored_update

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most 256
    stride: u32, // of dt_raw
    offset: u32, // first column of dt_raw
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens, at most 64
    sequences: u32,
    each: u32, // heads of a workgroup, which divides those of a group
    dt_min: f32,
    dt_max: f32,
}

@group(0) @binding(0) var<storage, read> xbc: array<f32>; // [sequences, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt_raw: array<f32>; // [sequences, stride]
@group(0) @binding(2) var<storage, read> per_head: array<f32>; // [3, heads] dt_bias, a_log, d
#ifdef quads
@group(0) @binding(3) var<storage, read> codes: array<vec4<u32>>; // [sequences * heads * head_dim, state] int8
#else
@group(0) @binding(3) var<storage, read> codes: array<u32>; // [sequences * heads * head_dim, state] int8
#endif
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(5) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(6) var<storage, read_write> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [sequences, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

fn channel_of(sequence: u32, channel: u32) -> f32 {
    return xbc[sequence * (params.heads * params.head_dim + 2u * params.groups * params.state) + channel];
}

fn raw_dt(sequence: u32, head: u32) -> f32 {
    return dt_raw[sequence * params.stride + params.offset + head];
}

fn head_vector(i: u32) -> f32 {
    return per_head[i];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    update(linear_workgroup(workgroup, grid), thread);
}
