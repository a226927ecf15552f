// causal_conv1d.wgsl for f16 outputs: a thread two channels, of which there are whole pairs, and four tokens.
#import float
#import half_words
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

// Two channels' inputs `at - (taps - 1)` tokens after the first, or what the state has of the tokens before it.
fn token(at: u32, channel: u32) -> vec2<f32> {
    let past = params.taps - 1u;
    if at < past {
        let i = channel * params.taps + at + 1u;
        return vec2(state[i], state[i + params.taps]);
    }
    let i = min(at - past, params.tokens - 1u) * params.stride + params.offset + channel;
    return vec2(input[i], input[i + 1u]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    let pairs = params.channels / 2u;
    let c = i % pairs * 2u;
    let t = i / pairs * 4u;
    if t >= params.tokens {
        return;
    }
    // What one tap sees for the four tokens; the next tap sees it one token later.
    var window = mat4x2(token(t, c), token(t + 1u, c), token(t + 2u, c), token(t + 3u, c));
    let first = vec2(bias[c], bias[c + 1u]);
    var sum = mat4x2(first, first, first, first);
    for (var j = 0u; j < params.taps; j++) {
        let w = vec2(weight[c * params.taps + j], weight[(c + 1u) * params.taps + j]);
        sum += mat4x2(w * window[0], w * window[1], w * window[2], w * window[3]);
        window = mat4x2(window[1], window[2], window[3], token(t + j + 4u, c));
    }
    for (var k = 0u; k < min(4u, params.tokens - t); k++) {
        let y = vec2(silu(sum[k].x), silu(sum[k].y));
        out[(t + k) * pairs + c / 2u] = words_of(y.xyxy).x;
    }
}
