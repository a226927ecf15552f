// state = the last `taps` of [state, inputs], oldest first: what the next call of causal_conv1d looks back to.
// One thread a channel; it writes in ascending order what it has read or will read only further on.
#import index

struct Params {
    tokens: u32,
    channels: u32,
    taps: u32,
    offset: u32, // first input column
    stride: u32, // columns of the tensor that holds the input
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> input: array<f32>; // [tokens, stride]
@group(0) @binding(1) var<storage, read_write> state: array<f32>; // [channels, taps]
@group(0) @binding(2) var<uniform> params: Params;

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
    for (var j = 0u; j < params.taps; j++) {
        let source = j + params.tokens;
        if source < params.taps {
            state[row + j] = state[row + source];
        } else {
            state[row + j] = input[(source - params.taps) * params.stride + params.offset + c];
        }
    }
}
