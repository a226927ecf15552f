// The fast Walsh-Hadamard transform (QuaRot, arXiv:2404.00456) of up to 4096 elements that are in a workgroup's registers,
// 16 a thread of 256: Sylvester's matrix in natural order, unscaled. The importing shader has `reduce_scratch`, 4096 f32 of
// workgroup memory (which reductions may use in between).
#import butterflies

// Spreads elements 16 apart over the memory banks.
fn slot(i: u32) -> u32 {
    return i ^ ((i >> 4u) & 15u);
}

fn read4(i: u32, stride: u32) -> vec4<f32> {
    return vec4(
        reduce_scratch[slot(i)],
        reduce_scratch[slot(i + stride)],
        reduce_scratch[slot(i + 2u * stride)],
        reduce_scratch[slot(i + 3u * stride)],
    );
}

fn write4(i: u32, stride: u32, v: vec4<f32>) {
    reduce_scratch[slot(i)] = v.x;
    reduce_scratch[slot(i + stride)] = v.y;
    reduce_scratch[slot(i + 2u * stride)] = v.z;
    reduce_scratch[slot(i + 3u * stride)] = v.w;
}

// Elements i + j * stride + k * step: component j of column k.
fn read16(i: u32, stride: u32, step: u32) -> mat4x4<f32> {
    return mat4x4(read4(i, stride), read4(i + step, stride), read4(i + 2u * step, stride), read4(i + 3u * step, stride));
}

fn write16(i: u32, stride: u32, step: u32, m: mat4x4<f32>) {
    write4(i, stride, m[0]);
    write4(i + step, stride, m[1]);
    write4(i + 2u * step, stride, m[2]);
    write4(i + 3u * step, stride, m[3]);
}

// The runs of 2^log_run elements of a span (shared/spans.wgsl). Every thread must call it.
fn transform_span(v: mat4x4<f32>, log_run: u32, thread: u32) -> mat4x4<f32> {
    let m = butterflies(v, vec4(0u, 1u, 10u, 11u), log_run);
    if log_run <= 2u {
        return m;
    }
    workgroupBarrier(); // what the memory held before may still be read
    write16(4u * thread, 1u, 1024u, m);
    workgroupBarrier();
    let near = thread / 4u * 64u + thread % 4u;
    write16(near, 4u, 16u, butterflies(read16(near, 4u, 16u), vec4(2u, 3u, 4u, 5u), log_run));
    workgroupBarrier();
    if log_run > 6u {
        let far = thread / 64u * 1024u + thread % 64u;
        write16(far, 64u, 256u, butterflies(read16(far, 64u, 256u), vec4(6u, 7u, 8u, 9u), log_run));
        workgroupBarrier();
    }
    return read16(4u * thread, 1u, 1024u);
}
