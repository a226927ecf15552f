// One token of the recurrence (selective_state_update) on a stored state (ssm_load): with S the rounded state,
// y = exp(L) S C + sum over j of exp(L - L_j) (B_j . C) x_j + D x over the recent tokens j, the new one included, which
// is appended to them. What is stored is H D S (shared/fwht.wgsl): S C = (H D S)(H D C). So y is exact but for the last rounding of S.
// One workgroup: 16 rows (head, p) of one head; 8 threads share a row's state elements, or a recent token's dot.
#import float
#import fwht
#import index
#import pack
#import recent

struct Params {
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4, at most 256
    offset: u32, // first column of dt_raw
    block: u32, // run of the Hadamard transform; 1: none
    window: u32, // most recent tokens, at most 64
    dt_min: f32,
    dt_max: f32,
}

const WG = 64u;
const LANES = 8u;
const TILE = 16u;

@group(0) @binding(0) var<storage, read> xbc: array<f32>; // [1, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read> dt_raw: array<f32>; // [1, stride]
@group(0) @binding(2) var<storage, read> per_head: array<f32>; // [3, heads] dt_bias, a_log, d
@group(0) @binding(3) var<storage, read> codes: array<u32>; // [heads * head_dim, state] int8
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [heads * head_dim]
@group(0) @binding(5) var<storage, read> clock: array<u32>; // [2] tokens so far, recent tokens
@group(0) @binding(6) var<storage, read_write> recent: array<f32>; // [window, heads + heads * head_dim + groups * state]
@group(0) @binding(7) var<storage, read_write> y: array<f32>; // [1, heads * head_dim]
@group(0) @binding(8) var<uniform> params: Params;

var<workgroup> sums: array<f32, WG>;
var<workgroup> weights: array<f32, WG>; // of recent tokens' x in y

// The sum of eight threads' values; every thread of the workgroup calls it.
fn lanes_sum(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    sums[thread] = value;
    workgroupBarrier();
    let first = thread / LANES * LANES;
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) {
        sum += sums[first + i];
    }
    return sum;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let tiles = (params.head_dim + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let head = item / tiles;
    if head >= params.heads {
        return;
    }
    let p0 = item % tiles * TILE;
    let lane = thread % LANES;
    let d_inner = params.heads * params.head_dim;
    let in_group = head / (params.heads / params.groups) * params.state;
    let b_at = d_inner + in_group;
    let c_at = b_at + params.groups * params.state;
    let last = min(clock[1], params.window - 1u); // the new token's place
    let raw = dt_raw[params.offset + head] + per_head[head];
    let step = clamp(softplus(raw), params.dt_min, params.dt_max);
    var now = -exp(per_head[params.heads + head]) * step;
    if last > 0u {
        now += recent_log(last - 1u, head);
    }

    // What each token's x weighs in y.
    for (var j0 = 0u; j0 <= last; j0 += WG / LANES) {
        let j = j0 + thread / LANES;
        var sum = 0.0;
        if j <= last {
            for (var n = lane; n < params.state; n += LANES) {
                if j == last {
                    sum += xbc[b_at + n] * xbc[c_at + n];
                } else {
                    sum += recent_b(j, in_group + n) * xbc[c_at + n];
                }
            }
        }
        sum = lanes_sum(sum, thread);
        if lane == 0u && j <= last {
            if j == last {
                weights[j] = step * sum;
            } else {
                weights[j] = exp(now - recent_log(j, head)) * sum;
            }
        }
    }

    for (var n = thread; n < params.state; n += WG) {
        line[n] = sign_at(n, params.block) * xbc[c_at + n];
    }
    transform_line(params.state, params.block, thread);
    let decay = exp(now) / sqrt(f32(params.block));
    let words = params.state / 4u;
    for (var r = 0u; r < TILE; r += WG / LANES) {
        let p = p0 + r + thread / LANES;
        let row = head * params.head_dim + min(p, params.head_dim - 1u);
        var sum = 0.0;
        for (var word = lane; word < words; word += LANES) {
            let at = 4u * word;
            let c = vec4(line[at], line[at + 1u], line[at + 2u], line[at + 3u]);
            sum += dot(vec4<f32>(codes8(codes[row * words + word])), c);
        }
        sum *= decay * scales[row];
        for (var j = lane; j < last; j += LANES) {
            sum += weights[j] * recent_x(j, row);
        }
        sum = lanes_sum(sum, thread);
        if lane == 0u && p < params.head_dim {
            let x = xbc[row];
            y[row] = sum + (weights[last] + per_head[2u * params.heads + head]) * x;
            recent[recent_row(last) + params.heads + row] = step * x;
        }
    }

    // Nobody reads the new token's place before the next launch.
    if p0 == 0u {
        if thread == 0u {
            recent[recent_row(last) + head] = now;
        }
        if head % (params.heads / params.groups) == 0u {
            for (var n = thread; n < params.state; n += WG) {
                recent[recent_row(last) + params.heads + d_inner + in_group + n] = xbc[b_at + n];
            }
        }
    }
}
