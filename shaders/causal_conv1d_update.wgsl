// One token of causal_conv1d: shifts the state by one, puts the input last, and
// out[c] = silu(bias[c] + sum over j of weight[c, j] * state[c, j]). One thread a channel of a sequence.
// Formats: `four` taps, a vec4 each of weights and state, and `any`.
#import float
#import index

struct Params {
    channels: u32,
    taps: u32,
    offset: u32, // first input column
    stride: u32, // of the input
    sequences: u32,
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> input: array<f32>; // [sequences, stride]
#ifdef four
@group(0) @binding(1) var<storage, read> weight: array<vec4<f32>>; // [channels, taps]
#else
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [channels, taps]
#endif
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [channels]
#ifdef four
@group(0) @binding(3) var<storage, read_write> state: array<vec4<f32>>; // [sequences * channels, taps]
#else
@group(0) @binding(3) var<storage, read_write> state: array<f32>; // [sequences * channels, taps]
#endif
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [sequences, channels]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i >= params.sequences * params.channels {
        return;
    }
    let c = i % params.channels;
    let value = input[i / params.channels * params.stride + params.offset + c];
#ifdef four
    let width = params.taps / 4u; // vec4s of a window: one
    let window = vec4(state[i * width].yzw, value);
    state[i * width] = window;
    out[i] = silu(bias[c] + dot(weight[c * width], window));
#else
    let row = i * params.taps;
    let weights = c * params.taps;
    let last = params.taps - 1u;
    var sum = bias[c];
    for (var j = 0u; j < last; j++) {
        let before = state[row + j + 1u];
        state[row + j] = before;
        sum += weight[weights + j] * before;
    }
    state[row + last] = value;
    out[i] = silu(sum + weight[weights + last] * value);
#endif
}
