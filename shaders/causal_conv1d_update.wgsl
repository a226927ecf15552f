// One token of causal_conv1d: shifts the state by one, puts the input last, and
// out[c] = silu(bias[c] + sum over j of weight[c, j] * state[c, j]). One thread a channel.
#import float
#import index

struct Params {
    channels: u32,
    taps: u32,
    offset: u32, // first input column
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> input: array<f32>; // [1, stride]
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [channels, taps]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read_write> state: array<f32>; // [channels, taps]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [1, channels]
@group(0) @binding(5) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let c = linear_workgroup(workgroup, grid) * WG + thread;
    if c >= params.channels {
        return;
    }
    let row = c * params.taps;
    let last = params.taps - 1u;
    var sum = bias[c];
    for (var j = 0u; j < last; j++) {
        let value = state[row + j + 1u];
        state[row + j] = value;
        sum += weight[row + j] * value;
    }
    let value = input[params.offset + c];
    state[row + last] = value;
    out[c] = silu(sum + weight[row + last] * value);
}
