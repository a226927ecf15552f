// dt = clamp(softplus(raw + bias), dt_min, dt_max); da_cumsum = inclusive sum of dt * -exp(a_log) within each
// chunk (Dao & Gu 2024, arXiv:2405.21060). One workgroup a chunk and head.
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

const WG = 128u;

@group(0) @binding(0) var<storage, read> dt_raw: array<f32>; // [tokens, stride]
@group(0) @binding(1) var<storage, read> dt_bias: array<f32>; // [heads]
@group(0) @binding(2) var<storage, read> a_log: array<f32>; // [heads]
@group(0) @binding(3) var<storage, read_write> dt: array<f32>; // [heads, tokens]
@group(0) @binding(4) var<storage, read_write> da_cumsum: array<f32>; // [heads, tokens]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    let head = item % params.heads;
    let first = item / params.heads * params.chunk;
    let end = min(first + params.chunk, params.tokens);
    let a = -exp(a_log[head]);
    var before = 0.0; // sum of the chunk's earlier tiles
    for (var start = first; start < end; start += WG) {
        let t = start + thread;
        var sum = 0.0;
        if t < end {
            let raw = dt_raw[t * params.stride + params.offset + head] + dt_bias[head];
            let step = clamp(softplus(raw), params.dt_min, params.dt_max);
            dt[head * params.tokens + t] = step;
            sum = step * a;
        }
        workgroupBarrier(); // the last tile's total may still be read
        sums[thread] = sum;
        for (var distance = 1u; distance < WG; distance *= 2u) {
            workgroupBarrier();
            if thread >= distance {
                sum += sums[thread - distance];
            }
            workgroupBarrier();
            sums[thread] = sum;
        }
        workgroupBarrier();
        if t < end {
            da_cumsum[head * params.tokens + t] = before + sum;
        }
        before += sums[WG - 1u];
    }
}
