// out = scale * H x over contiguous runs of 2^log_run <= 4096 elements, H Sylvester's matrix in natural order:
// the fast Walsh-Hadamard transform (QuaRot, arXiv:2404.00456).
// A workgroup takes 4096 elements, one run or many. A thread holds 16 of them and does four butterfly levels in
// registers, in three rounds: bits 8..11 of the index, 4..7, 0..3; levels from log_run up are left out.
#import index

struct Params {
    count: u32, // elements
    log_run: u32,
    scale: f32,
}

const WG = 256u;
const SPAN = 4096u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [count]
@group(0) @binding(1) var<storage, read_write> out: array<f32>; // [count]
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> tile: array<f32, SPAN>;

// Spreads elements 16 apart over the memory banks.
fn slot(i: u32) -> u32 {
    return i ^ ((i >> 4u) & 15u);
}

fn input(i: u32) -> f32 {
    if i < params.count {
        return x[i];
    }
    return 0.0;
}

fn inputs(i: u32) -> vec4<f32> {
    return vec4(input(i), input(i + 256u), input(i + 512u), input(i + 768u));
}

fn read4(i: u32, stride: u32) -> vec4<f32> {
    return vec4(tile[slot(i)], tile[slot(i + stride)], tile[slot(i + 2u * stride)], tile[slot(i + 3u * stride)]);
}

fn write4(i: u32, stride: u32, v: vec4<f32>) {
    tile[slot(i)] = v.x;
    tile[slot(i + stride)] = v.y;
    tile[slot(i + 2u * stride)] = v.z;
    tile[slot(i + 3u * stride)] = v.w;
}

// Element j of the sixteen from i on is tile[i + j * stride], and m[j / 4][j % 4] here.
fn read16(i: u32, stride: u32) -> mat4x4<f32> {
    let step = 4u * stride;
    return mat4x4(read4(i, stride), read4(i + step, stride), read4(i + 2u * step, stride), read4(i + 3u * step, stride));
}

fn write16(i: u32, stride: u32, m: mat4x4<f32>) {
    for (var c = 0u; c < 4u; c += 1u) {
        write4(i + 4u * c * stride, stride, m[c]);
    }
}

fn pairs(v: vec4<f32>) -> vec4<f32> {
    return vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
}

fn halves(v: vec4<f32>) -> vec4<f32> {
    return vec4(v.xy + v.zw, v.xy - v.zw);
}

// Levels first.. first + 3, as far as they are below log_run.
fn butterflies(v: mat4x4<f32>, first: u32) -> mat4x4<f32> {
    var m = v;
    if first < params.log_run {
        m = mat4x4(pairs(m[0]), pairs(m[1]), pairs(m[2]), pairs(m[3]));
    }
    if first + 1u < params.log_run {
        m = mat4x4(halves(m[0]), halves(m[1]), halves(m[2]), halves(m[3]));
    }
    if first + 2u < params.log_run {
        m = mat4x4(m[0] + m[1], m[0] - m[1], m[2] + m[3], m[2] - m[3]);
    }
    if first + 3u < params.log_run {
        m = mat4x4(m[0] + m[2], m[1] + m[3], m[0] - m[2], m[1] - m[3]);
    }
    return m;
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
    write16(thread, 256u, butterflies(read, 8u));
    workgroupBarrier();
    if params.log_run > 4u {
        let i = (thread / 16u) * 256u + thread % 16u;
        write16(i, 16u, butterflies(read16(i, 16u), 4u));
        workgroupBarrier();
    }
    write16(thread * 16u, 1u, butterflies(read16(thread * 16u, 1u), 0u) * params.scale);
    workgroupBarrier();
    let end = min(SPAN, params.count - min(start, params.count));
    for (var i = thread; i < end; i += WG) {
        out[start + i] = tile[slot(i)];
    }
}
