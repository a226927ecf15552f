// Repeats acc = acc + dot(acc, y) of packed int8 codes over sixteen chains a thread and adds them up: nothing but
// packed products, to measure what the adapter can do. Chain j starts at x + j; sums wrap.
#import index
#import dot

struct Params {
    count: u32,
    rounds: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<u32>; // [count]
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [count]
@group(0) @binding(2) var<uniform> params: Params;

fn step(acc: u32, y: u32) -> u32 {
    return acc + bitcast<u32>(dot_codes(acc, y));
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
    let y = x[i];
    var a = vec4(0u, 1u, 2u, 3u) + y;
    var b = vec4(4u, 5u, 6u, 7u) + y;
    var c = vec4(8u, 9u, 10u, 11u) + y;
    var d = vec4(12u, 13u, 14u, 15u) + y;
    for (var round = 0u; round < params.rounds; round++) {
        // Four steps a round, so that the loop itself costs little.
        for (var s = 0u; s < 4u; s++) {
            a = vec4(step(a.x, y), step(a.y, y), step(a.z, y), step(a.w, y));
            b = vec4(step(b.x, y), step(b.y, y), step(b.z, y), step(b.w, y));
            c = vec4(step(c.x, y), step(c.y, y), step(c.z, y), step(c.w, y));
            d = vec4(step(d.x, y), step(d.y, y), step(d.z, y), step(d.w, y));
        }
    }
    let sum = a + b + c + d;
    out[i] = sum.x + sum.y + sum.z + sum.w;
}
