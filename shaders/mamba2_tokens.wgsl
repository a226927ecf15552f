// Few tokens of one sequence in a Mamba-2 mixer between its projections (shared/token_span.wgsl): mamba2_update.wgsl of each in turn.
#import index
#import token_span

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most MAX_STATE
    taps: u32, // at most 4
    offset: u32, // first input column of x, B, C and dt
    dt_min: f32,
    dt_max: f32,
    stride: u32, // of the input
    tokens: u32,
}

@group(0) @binding(0) var<storage, read> input: array<f32>; // [tokens, stride] x | B | C | dt from column offset
@group(0) @binding(1) var<storage, read> weight: array<f32>; // [channels, taps]
@group(0) @binding(2) var<storage, read> bias: array<f32>; // [channels]
@group(0) @binding(3) var<storage, read> per_head: array<f32>; // [3, heads] dt_bias, a_log, d
@group(0) @binding(4) var<storage, read_write> conv_state: array<f32>; // [channels, taps]
@group(0) @binding(5) var<storage, read_write> ssm_state: array<vec4<f32>>; // [heads, head_dim * state]
@group(0) @binding(6) var<storage, read_write> tickets: array<atomic<u32>>; // [groups]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [tokens, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

fn conv_weight(i: u32) -> f32 {
    return weight[i];
}

fn conv_bias(channel: u32) -> f32 {
    return bias[channel];
}

fn head_vector(i: u32) -> f32 {
    return per_head[i];
}

fn gate_of(token: u32, row: u32) -> f32 {
    return 1.0;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    if item >= params.groups * tiles() {
        return;
    }
    let at = spot_of(item, thread);
    var state = fetch(at); // on the way during the first convolutions
    for (var first = 0u; first < params.tokens; first += SPAN) {
        let count = min(SPAN, params.tokens - first);
        state = through(state, at, item, first, count);
        let own = spot_of_row(item, thread % ROWS, thread);
        if thread < count * ROWS && own.inside {
            y[(first + thread / ROWS) * params.heads * params.head_dim + own.row] = y_of(thread);
        }
    }
    leave(state, at, item);
}
