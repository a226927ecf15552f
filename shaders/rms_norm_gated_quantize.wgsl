// The end of a Mamba-2 mixer up to its last product: v = y * silu(z), RMS norm over groups of columns (arXiv:2405.21060),
// Hadamard transform of runs of columns (arXiv:2404.00456), int8 codes (shared/int8_codes.wgsl). Nothing else is kept.
// z are columns gate_offset.. of a wider tensor. One workgroup a row, which it holds in registers.
#import float
#import four
#import held_row
#import index
#import sylvester

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to two spans; in the long formats three
    norm_group: u32, // columns of a norm; a multiple of 4
    group: u32, // columns a scale; a multiple of 4, or cols
    gate_stride: u32, // elements from a row of the gate's tensor to the next; a multiple of 4
    gate_offset: u32, // its first column; a multiple of 4
    eps: f32,
    log_run: u32, // a run is 2^log_run columns, at most a span; 0: no transform
    unit: f32, // scale of the transform
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> y: array<Four>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read> gate: array<vec4<f32>>; // [rows, gate_stride]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // [cols]
@group(0) @binding(3) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

fn values(row: u32, spots: vec4<u32>) -> mat4x4<f32> {
    let at = row * row_quads() + clamped(spots);
    return mat4x4(four(y[at.x]), four(y[at.y]), four(y[at.z]), four(y[at.w]));
}

fn gates(row: u32, spots: vec4<u32>) -> mat4x4<f32> {
    let at = (row * params.gate_stride + params.gate_offset) / 4u + clamped(spots);
    return mat4x4(gate[at.x], gate[at.y], gate[at.z], gate[at.w]);
}

fn weights(spots: vec4<u32>) -> mat4x4<f32> {
    let at = clamped(spots);
    return mat4x4(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

fn silu4(z: vec4<f32>) -> vec4<f32> {
    return vec4(silu(z.x), silu(z.y), silu(z.z), silu(z.w));
}

fn gated(v: mat4x4<f32>, z: mat4x4<f32>) -> mat4x4<f32> {
    return times(v, mat4x4(silu4(z[0]), silu4(z[1]), silu4(z[2]), silu4(z[3])));
}

fn norm_scales(spots: vec4<u32>) -> vec4<f32> {
    let sums = of_groups(spots, params.norm_group / 4u);
    return inverseSqrt(sums / f32(params.norm_group) + params.eps);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let t = place.thread;
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let a = spots(0u, t);
    let b = spots(1u, t);
    let c = spots(2u, t);
    let two = row_quads() > 1024u;
#ifdef long long_norms half_long half_long_norms
    let three = row_quads() > 2048u;
#else
    let three = false; // no registers for a span that is never there
#endif
    var v = Held(values(row, a), mat4x4<f32>(), mat4x4<f32>());
    var z = Held(gates(row, a), mat4x4<f32>(), mat4x4<f32>());
    if two {
        v.b = values(row, b);
        z.b = gates(row, b);
    }
    if three {
        v.c = values(row, c);
        z.c = gates(row, c);
    }
    v = Held(gated(v.a, z.a), gated(v.b, z.b), gated(v.c, z.c));
    reduce_groups(array(squares(v.a, a), squares(v.b, b), squares(v.c, c)), params.norm_group / 4u, true, t);
    // The weight only now: all rows share it, so it is near, and registers are few.
    v.a = times(times_each(v.a, norm_scales(a)), weights(a));
    if two {
        v.b = times(times_each(v.b, norm_scales(b)), weights(b));
    }
    if three {
        v.c = times(times_each(v.c, norm_scales(c)), weights(c));
    }
    v.a = transform_span(v.a, params.log_run, t) * params.unit;
    if two {
        v.b = transform_span(v.b, params.log_run, t) * params.unit;
    }
    if three {
        v.c = transform_span(v.c, params.log_run, t) * params.unit;
    }
    quantize_held(row, v, place);
}
