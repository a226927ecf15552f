// out = scale * H x over contiguous runs of 2^log_run <= 4096 elements, H Sylvester's matrix in natural order:
// the fast Walsh-Hadamard transform (QuaRot, arXiv:2404.00456).
// A workgroup takes 4096 elements, one run or many. A thread holds 16 of them and does four butterfly levels in
// registers, in three rounds: bits 8..11 of the index, 0..3, 4..7; levels from log_run up are left out. In the first and the
// last round neighbouring threads hold neighbouring elements, as storage wants it.
#import index
#import sylvester

struct Params {
    count: u32, // elements
    log_run: u32,
    scale: f32,
}

const WG = 256u;
const SPAN = 4096u;

@group(0) @binding(0) var<storage, read> x: array<u32>; // [count] f32 or f16
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [count] f32 or f16
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

// Beyond the end anything: those runs are not stored.
fn input(i: u32) -> f32 {
    return bitcast<f32>(x[min(i, params.count - 1u)]);
}

fn inputs(i: u32) -> vec4<f32> {
    return vec4(input(i), input(i + 256u), input(i + 512u), input(i + 768u));
}

fn put(i: u32, v: f32) {
    if i < params.count {
        out[i] = bitcast<u32>(v);
    }
}

fn put4(i: u32, v: vec4<f32>) {
    put(i, v.x);
    put(i + 16u, v.y);
    put(i + 32u, v.z);
    put(i + 48u, v.w);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let start = linear_workgroup(workgroup, grid) * SPAN;
    let at = start + thread;
    let read = mat4x4(inputs(at), inputs(at + 1024u), inputs(at + 2048u), inputs(at + 3072u));
    let run = params.log_run;
    write16(thread, 256u, 1024u, butterflies(read * params.scale, vec4(8u, 9u, 10u, 11u), run));
    workgroupBarrier();
    let own = thread * 16u;
    write16(own, 1u, 4u, butterflies(read16(own, 1u, 4u), vec4(0u, 1u, 2u, 3u), run));
    workgroupBarrier();
    let i = thread / 16u * 256u + thread % 16u;
    let last = butterflies(read16(i, 16u, 64u), vec4(4u, 5u, 6u, 7u), run);
    put4(start + i, last[0]);
    put4(start + i + 64u, last[1]);
    put4(start + i + 128u, last[2]);
    put4(start + i + 192u, last[3]);
}
