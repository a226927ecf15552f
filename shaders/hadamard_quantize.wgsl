// The last pass of a Hadamard transform (hadamard.wgsl) and int8 codes of what it gives (shared/int8_codes.wgsl), which is
// not kept: v = unit * H x over runs of 2^log_run columns, codes and scale of v. One workgroup a row, held in registers.
#import index
#import long_row
#import sylvester

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to six spans
    log_run: u32, // a run is at most a span
    unit: f32, // scale of the transform
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

fn inputs(row: u32, spots: vec4<u32>) -> mat4x4<f32> {
    let at = row * row_quads() + clamped(spots);
    return mat4x4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

fn transformed(v: mat4x4<f32>, thread: u32) -> mat4x4<f32> {
    return transform_span(v, params.log_run, thread) * params.unit;
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
    let quads = row_quads();
    var v = Long(inputs(row, spots(0u, t)), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>());
    if quads > 1024u {
        v.b = inputs(row, spots(1u, t));
        v.c = inputs(row, spots(2u, t));
    }
    if quads > 3072u {
        v.d = inputs(row, spots(3u, t));
        v.e = inputs(row, spots(4u, t));
        v.f = inputs(row, spots(5u, t));
    }
    v.a = transformed(v.a, t);
    if quads > 1024u {
        v.b = transformed(v.b, t);
        v.c = transformed(v.c, t);
    }
    if quads > 3072u {
        v.d = transformed(v.d, t);
        v.e = transformed(v.e, t);
        v.f = transformed(v.f, t);
    }
    quantize_long(row, v, place);
}
