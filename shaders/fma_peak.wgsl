// Repeats acc = acc * 0.5 + 0.25 over sixteen chains a thread and adds them up: nothing but multiply-adds, to measure
// what the adapter can do. Chain j starts at x + j and tends to 0.5, so no number of rounds overflows.
#import index

struct Params {
    count: u32,
    rounds: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [count]
@group(0) @binding(2) var<uniform> params: Params;

const HALF = vec4(0.5f);
const QUARTER = vec4(0.25f);

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
    var a = vec4(0.0, 1.0, 2.0, 3.0) + x[i];
    var b = vec4(4.0, 5.0, 6.0, 7.0) + x[i];
    var c = vec4(8.0, 9.0, 10.0, 11.0) + x[i];
    var d = vec4(12.0, 13.0, 14.0, 15.0) + x[i];
    for (var round = 0u; round < params.rounds; round++) {
        // Eight steps a round, unrolled, so that the loop itself costs little.
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
        a = fma(a, HALF, QUARTER);
        b = fma(b, HALF, QUARTER);
        c = fma(c, HALF, QUARTER);
        d = fma(d, HALF, QUARTER);
    }
    let sum = a + b + c + d;
    out[i] = sum.x + sum.y + sum.z + sum.w;
}
