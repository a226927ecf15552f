// Few tokens of one sequence in a Mamba-2 mixer from its first projection into its norm: mamba2_update_gated.wgsl of each in turn
// (shared/token_span.wgsl), so y's gate silu(z), the norm's weight, Hadamard transform of runs of rows (arXiv:2404.00456) and int8 codes of groups
// (shared/group_codes.wgsl). The norm's factor is left to whoever reads the codes. A workgroup's rows are a group.
#import group_codes
#import index
#import runs4
#import token_span

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32, // whose heads' rows are a multiple of ROWS
    state: u32, // a multiple of 4, at most MAX_STATE
    taps: u32, // at most 4
    offset: u32, // first input column of x, B, C and dt
    gate_offset: u32, // first input column of z
    dt_min: f32,
    dt_max: f32,
    log_run: u32, // a run is 2^log_run rows, at most ROWS; 0: no transform
    unit: f32, // scale of the transform
    stride: u32, // of the input
    tokens: u32, // of the sequence, the input's first rows
    rows: u32, // of the outputs, at least as many
}

@group(0) @binding(0) var<storage, read> input: array<f32>; // [rows, stride] z from gate_offset, x | B | C | dt from offset
@group(0) @binding(1) var<storage, read> vectors: array<f32>; // [channels, taps] and [channels] of the convolution, [3, heads] dt_bias, a_log, d, [heads * head_dim] of the norm
@group(0) @binding(2) var<storage, read_write> conv_state: array<f32>; // [channels, taps]
@group(0) @binding(3) var<storage, read_write> ssm_state: array<vec4<f32>>; // [heads, head_dim * state]
@group(0) @binding(4) var<storage, read_write> tickets: array<atomic<u32>>; // [groups]
@group(0) @binding(5) var<storage, read_write> out_codes: array<u32>; // [rows, heads * head_dim] int8
@group(0) @binding(6) var<storage, read_write> out_scales: array<f32>; // [2, rows * heads * head_dim / ROWS] scales, then sums of squares
@group(0) @binding(7) var<uniform> params: Params;

var<workgroup> gated: array<vec2<f32>, SPAN * ROWS>; // v, and v times its weight

fn conv_weight(i: u32) -> f32 {
    return vectors[i];
}

fn conv_bias(channel: u32) -> f32 {
    return vectors[channels() * params.taps + channel];
}

fn head_vector(i: u32) -> f32 {
    return vectors[channels() * (params.taps + 1u) + i];
}

fn norm_weight(row: u32) -> f32 {
    return head_vector(3u * params.heads + row);
}

fn gate_of(token: u32, row: u32) -> f32 {
    return silu(input[token * params.stride + params.gate_offset + row]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let item = linear_workgroup(workgroup, grid);
    if item >= params.groups * tiles() {
        return;
    }
    let at = spot_of(item, thread);
    let groups = params.groups * tiles(); // of a token
    var state = fetch(at); // on the way during the first convolutions
    for (var first = 0u; first < params.tokens; first += SPAN) {
        let count = min(SPAN, params.tokens - first);
        state = through(state, at, item, first, count);
        if thread < count * ROWS {
            let v = y_of(thread);
            gated[thread] = vec2(v, v * norm_weight(item * ROWS + thread % ROWS));
        }
        workgroupBarrier();
        let t = thread / 8u % SPAN;
        let i = t * ROWS + 4u * (thread % 8u);
        let quad = array(gated[i], gated[i + 1u], gated[i + 2u], gated[i + 3u]);
        let v = vec4(quad[0].x, quad[1].x, quad[2].x, quad[3].x);
        let weighted = vec4(quad[0].y, quad[1].y, quad[2].y, quad[3].y);
        let w = transformed(weighted, params.log_run, params.unit, place);
        put_codes((first + t) * groups + item, params.rows * groups, w, dot(v, v), thread < 8u * count, place);
    }
    // Nothing in the rows beyond.
    for (var token = params.tokens + thread / 8u; token < params.rows; token += WG / 8u) {
        let group = token * groups + item;
        out_codes[8u * group + thread % 8u] = 0u;
        if thread % 8u == 0u {
            out_scales[group] = 0.0;
            out_scales[params.rows * groups + group] = 0.0;
        }
    }
    leave(state, at, item);
}
