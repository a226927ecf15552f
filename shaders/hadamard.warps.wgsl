// hadamard.wgsl by subgroups of 32 threads (shared/warp_span.wgsl), for whole quads of f32 or f16. A workgroup takes a span.
#import index
#import quad_words
#import warp_span

struct Params {
    count: u32, // elements
    log_run: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Words>; // [count] f32 or f16
@group(0) @binding(1) var<storage, read_write> out: array<Words>; // [count] f32 or f16
@group(0) @binding(2) var<uniform> params: Params;

// Beyond the end the last one: those runs are not stored.
fn input(quad: u32) -> vec4<f32> {
    return quad_of(x[min(quad, params.count / 4u - 1u)]);
}

fn inputs(quad: u32) -> mat4x4<f32> {
    return mat4x4(input(quad), input(quad + 128u), input(quad + 256u), input(quad + 384u));
}

fn put(quad: u32, v: vec4<f32>) {
    if quad < params.count / 4u {
        out[quad] = words_of(v * params.scale);
    }
}

fn put4(quad: u32, m: mat4x4<f32>) {
    put(quad, m[0]);
    put(quad + 32u, m[1]);
    put(quad + 64u, m[2]);
    put(quad + 96u, m[3]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let start = linear_workgroup(workgroup, grid) * 1024u;
    let at = start + first_quad(place);
    let v = transform_span(Span(inputs(at), inputs(at + 512u)), params.log_run, place);
    let to = start + last_quad(place);
    put4(to, v.a);
    put4(to + 512u, v.b);
}
