// out[t, c] = silu(bias[c] + sum over j of weight[c, j] * in[t + j - (taps - 1), c]): a depthwise causal
// convolution over time. Tokens before the first come from `state`, the last `taps` inputs, oldest first.
// One thread a channel and four tokens.
#import float
#import index

struct Params {
    tokens: u32,
    channels: u32,
    taps: u32,
    offset: u32, // first input column
    stride: u32, // columns of the tensor that holds the input
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> input: array<f32>; // [tokens, stride]
@group(0) @binding(1) var<storage, read> state: array<f32>; // [channels, taps]
@group(0) @binding(2) var<storage, read> weight: array<f32>; // [channels, taps]
@group(0) @binding(3) var<storage, read> bias: array<f32>; // [channels]
@group(0) @binding(4) var<storage, read_write> out: array<u32>; // [tokens, channels] f32, or f16
@group(0) @binding(5) var<uniform> params: Params;

// The input `at - (taps - 1)` tokens after the first, or what the state has of the tokens before it.
fn token(at: u32, channel: u32) -> f32 {
    let past = params.taps - 1u;
    if at < past {
        return state[channel * params.taps + at + 1u];
    }
    return input[min(at - past, params.tokens - 1u) * params.stride + params.offset + channel];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let c = i % params.channels;
    let t = i / params.channels * 4u;
    if t >= params.tokens {
        return;
    }
    // What one tap sees for the four tokens; the next tap sees it one token later.
    var window = vec4(token(t, c), token(t + 1u, c), token(t + 2u, c), token(t + 3u, c));
    var sum = vec4(bias[c]);
    for (var j = 0u; j < params.taps; j++) {
        sum += weight[c * params.taps + j] * window;
        window = vec4(window.yzw, token(t + j + 4u, c));
    }
    for (var k = 0u; k < min(4u, params.tokens - t); k++) {
        out[(t + k) * params.channels + c] = bitcast<u32>(silu(sum[k]));
    }
}
