// hadamard.wgsl for whole quads of f32 or f16.
#import index
#import quad_words
#import sylvester

struct Params {
    count: u32, // elements
    log_run: u32,
    scale: f32,
}

const WG = 256u;
const SPAN = 4096u;

@group(0) @binding(0) var<storage, read> x: array<Words>; // [count] f32 or f16
@group(0) @binding(1) var<storage, read_write> out: array<Words>; // [count] f32 or f16
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

// Beyond the end the last one: those runs are not stored.
fn input(quad: u32) -> vec4<f32> {
    return quad_of(x[min(quad, params.count / 4u - 1u)]);
}

fn put(quad: u32, v: vec4<f32>) {
    if quad < params.count / 4u {
        out[quad] = words_of(v);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = linear_workgroup(workgroup, grid) * (SPAN / 4u) + thread;
    let read = mat4x4(input(at), input(at + 256u), input(at + 512u), input(at + 768u));
    let v = transform_span(read, params.log_run, thread) * params.scale;
    put(at, v[0]);
    put(at + 256u, v[1]);
    put(at + 512u, v[2]);
    put(at + 768u, v[3]);
}
