// dt = clamp(softplus(raw + bias), dt_min, dt_max); da_cumsum = inclusive sum of dt * -exp(a_log) within each
// chunk (Dao & Gu 2024, arXiv:2405.21060). One workgroup: 8 heads of a chunk, 128 tokens at a time, which it reads with heads next to each
// other and writes with tokens so. 32 threads share a head, of four tokens each.
// A tree scan: its error grows with the logarithm of the chunk, which matters as exp is taken of differences.
#import float
#import index

struct Params {
    tokens: u32,
    heads: u32,
    chunk: u32,
    offset: u32, // first column of dt_raw
    stride: u32, // columns of the tensor that holds dt_raw
    dt_min: f32,
    dt_max: f32,
}

const WG = 256u;
const HEADS = 8u; // of a workgroup
const LANES = 32u; // threads of a head
const TILE = 4u * LANES; // tokens at a time
const PITCH = TILE + 4u; // tokens from a head to the next, padded against bank conflicts

@group(0) @binding(0) var<storage, read> dt_raw: array<f32>; // [tokens, stride]
@group(0) @binding(1) var<storage, read> dt_bias: array<f32>; // [heads]
@group(0) @binding(2) var<storage, read> a_log: array<f32>; // [heads]
@group(0) @binding(3) var<storage, read_write> dt: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read_write> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> steps: array<f32, HEADS * PITCH>; // dt of [head, token]
var<workgroup> sums: array<f32, HEADS * PITCH>; // da_cumsum of [head, token]
var<workgroup> totals: array<f32, 2u * WG>; // of threads, in turn what a step of the tree reads and writes

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    let parts = (params.heads + HEADS - 1u) / HEADS;
    let head0 = item % parts * HEADS;
    let first = item / parts * params.chunk;
    let end = min(first + params.chunk, params.tokens);
    let lane = thread % LANES;
    let slot = thread / LANES; // of the thread's head
    let head = head0 + slot;
    // Heads beyond the last do as the last, and store nothing.
    let read = min(head0 + thread % HEADS, params.heads - 1u);
    let bias = dt_bias[read];
    let a = -exp(a_log[min(head, params.heads - 1u)]);
    var before = 0.0; // sum of the chunk's earlier tiles
    for (var start = first; start < end; start += TILE) {
        for (var token = thread / HEADS; token < TILE; token += LANES) {
            var step = 0.0;
            if start + token < end {
                let raw = dt_raw[(start + token) * params.stride + params.offset + read] + bias;
                step = clamp(softplus(raw), params.dt_min, params.dt_max);
            }
            steps[thread % HEADS * PITCH + token] = step;
        }
        workgroupBarrier();
        let own = slot * PITCH + 4u * lane;
        let da = vec4(steps[own], steps[own + 1u], steps[own + 2u], steps[own + 3u]) * a;
        let two = da.x + da.y;
        let three = two + da.z;
        let all = three + da.w;
        var sum = all; // of the threads up to this one
        var from_half = 0u;
        totals[thread] = sum;
        for (var distance = 1u; distance < LANES; distance *= 2u) {
            workgroupBarrier();
            if lane >= distance {
                sum += totals[from_half + thread - distance];
            }
            from_half = WG - from_half;
            totals[from_half + thread] = sum;
        }
        workgroupBarrier();
        let earlier = before + select(0.0, totals[from_half + max(thread, 1u) - 1u], lane > 0u);
        sums[own] = earlier + da.x;
        sums[own + 1u] = earlier + two;
        sums[own + 2u] = earlier + three;
        sums[own + 3u] = earlier + all;
        workgroupBarrier();
        before += totals[from_half + slot * LANES + LANES - 1u];
        for (var token = lane; token < min(TILE, end - start); token += LANES) {
            if head < params.heads {
                dt[head * params.tokens + start + token] = steps[slot * PITCH + token];
                da_cumsum[head * params.tokens + start + token] = sums[slot * PITCH + token];
            }
        }
        workgroupBarrier(); // what is stored may still be read
    }
}
