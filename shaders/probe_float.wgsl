// Is f(x) within bounds on this driver? Judged by bit patterns in integers, which no fast-math mode can optimise away
// (a NaN is outside of all bounds). One thread a value; what f is, says `op`.
#import float
#import index

struct Params {
    count: u32,
    op: u32, // 0 exp, 1 log, 2 tanh, 3 softplus, 4 silu, 5 f16 to f32, 6 f32 to f16
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> x: array<u32>; // [count] bits of x
@group(0) @binding(1) var<storage, read> low: array<u32>; // [count] lowest bits of f(x); op 6: rounded to nearest
@group(0) @binding(2) var<storage, read> high: array<u32>; // [count] highest bits of f(x); op 6: rounded toward zero
@group(0) @binding(3) var<storage, read_write> wrong: array<u32>; // [count] 1 for outside
@group(0) @binding(4) var<storage, read_write> kind: array<u32>; // [count] 1 nearest, 2 toward zero, 3 flushed, else 0
@group(0) @binding(5) var<uniform> params: Params;

// Orders as the floats of these bits do.
fn key(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}

fn evaluate(bits: u32) -> u32 {
    let v = bitcast<f32>(bits);
    switch params.op {
        case 0u: { return bitcast<u32>(exp(v)); }
        case 1u: { return bitcast<u32>(log(v)); }
        case 2u: { return bitcast<u32>(tanh(v)); }
        case 3u: { return bitcast<u32>(softplus(v)); }
        case 4u: { return bitcast<u32>(silu(v)); }
        case 5u: { return bitcast<u32>(unpack2x16float(bits).x); }
        default: { return pack2x16float(vec2(v, 0.0)) & 0xffffu; }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = linear_workgroup(workgroup, grid) * WG + thread;
    if i >= params.count {
        return;
    }
    let y = evaluate(x[i]);
    let flushed = (y << select(1u, 17u, params.op == 6u)) == 0u;
    if params.op == 6u {
        let subnormal = (low[i] & 0x7c00u) == 0u && (low[i] & 0x3ffu) != 0u;
        let right = y == low[i] || y == high[i];
        wrong[i] = select(1u, 0u, right || (flushed && subnormal));
        let rounding = select(2u, 1u, y == low[i]);
        kind[i] = select(select(0u, rounding, right && low[i] != high[i]), 3u, flushed && subnormal && !right);
    } else {
        wrong[i] = select(0u, 1u, key(y) < key(low[i]) || key(y) > key(high[i]));
        kind[i] = select(0u, 3u, flushed && params.op == 5u && (x[i] & 0x3ffu) != 0u);
    }
}
