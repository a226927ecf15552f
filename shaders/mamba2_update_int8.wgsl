// One token of each sequence in a Mamba-2 mixer between its projections, on a stored state: causal_conv1d_update of four taps, then
// selective_state_update_int8 (shared/stored_update.wgsl), in one dispatch. A workgroup has all heads of a group, so the windows of B and
// C are its own.
#import index
#import stored_update

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most 256
    stride: u32, // of the input
    offset: u32, // first input column of x, B, C and dt
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens, at most 64
    sequences: u32,
    each: u32, // heads of a workgroup: those of a group
    dt_min: f32,
    dt_max: f32,
}

@group(0) @binding(0) var<storage, read> input: array<f32>; // [sequences, stride] x | B | C | dt from column offset
@group(0) @binding(1) var<storage, read> vectors: array<vec4<f32>>; // convolution's weight [channels, 4] and bias [channels]; dt_bias, a_log, d [3, heads]; whole vec4s
#ifdef quads
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>; // [sequences * heads * head_dim, state] int8
#else
@group(0) @binding(2) var<storage, read> codes: array<u32>; // [sequences * heads * head_dim, state] int8
#endif
@group(0) @binding(3) var<storage, read> scales: array<f32>; // [sequences * heads * head_dim]
@group(0) @binding(4) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens of all sequences
@group(0) @binding(5) var<storage, read_write> conv_state: array<vec4<f32>>; // [sequences * channels, 4]
@group(0) @binding(6) var<storage, read_write> recent: array<f32>; // [sequences * window, heads + heads * head_dim + groups * state]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [sequences, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

fn channels() -> u32 {
    return params.heads * params.head_dim + 2u * params.groups * params.state;
}

fn vector(i: u32) -> f32 {
    return vectors[i / 4u][i % 4u];
}

// Convolved; moves its window on.
fn channel_of(sequence: u32, channel: u32) -> f32 {
    let newest = input[sequence * params.stride + params.offset + channel];
    let at = sequence * channels() + channel;
    let window = vec4(conv_state[at].yzw, newest);
    conv_state[at] = window;
    return silu(vector(4u * channels() + channel) + dot(vectors[channel], window));
}

fn raw_dt(sequence: u32, head: u32) -> f32 {
    return input[sequence * params.stride + params.offset + channels() + head];
}

fn head_vector(i: u32) -> f32 {
    return vector(5u * channels() + i);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    update(linear_workgroup(workgroup, grid), thread);
}
