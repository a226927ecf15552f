// The last pass of a Hadamard transform (hadamard.wgsl) and int8 codes of what it gives (shared/int8_codes.wgsl), which is
// not kept: v = unit * H x over runs of 2^log_run columns, codes and scale of v. One workgroup a row, held in registers.
#import index
#import long_row
#import quad_words
#import sylvester

struct Params {
    rows: u32,
    cols: u32, // a multiple of 4, up to six spans
    log_run: u32, // a run is at most a span
    unit: f32, // scale of the transform
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<Words>; // [rows, cols] f32 or f16
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

fn inputs(row: u32, spots: vec4<u32>) -> mat4x4<f32> {
    let at = row * row_quads() + clamped(spots);
    return mat4x4(quad_of(x[at.x]), quad_of(x[at.y]), quad_of(x[at.z]), quad_of(x[at.w]));
}

#ifdef any runs_of_256
fn span_of(v: Long, span: u32) -> mat4x4<f32> {
    switch span {
        case 0u: { return v.a; }
        case 1u: { return v.b; }
        case 2u: { return v.c; }
        case 3u: { return v.d; }
        case 4u: { return v.e; }
        default: { return v.f; }
    }
}

fn with_span(v: Long, span: u32, m: mat4x4<f32>) -> Long {
    var changed = v;
    switch span {
        case 0u: { changed.a = m; }
        case 1u: { changed.b = m; }
        case 2u: { changed.c = m; }
        case 3u: { changed.d = m; }
        case 4u: { changed.e = m; }
        default: { changed.f = m; }
    }
    return changed;
}
#endif

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
#ifdef short halves halves_4096
    let only = transform_span(inputs(row, spots(0u, t)), params.log_run, t) * params.unit;
    quantize_long(row, Long(only, mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>(), mat4x4<f32>()), place);
#else
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
    // One copy of the transform: six take drivers for CPUs half a minute to compile.
    for (var span = 0u; span < (quads + 1023u) / 1024u; span += 1u) {
        v = with_span(v, span, transform_span(span_of(v, span), params.log_run, t) * params.unit);
    }
    quantize_long(row, v, place);
#endif
}
