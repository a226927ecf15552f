// Symmetric int8 codes of each row with one scale, or of each group with one where the row is up to three spans long:
// what quantize_tokens.wgsl does, for rows of whole quads, up to six spans. One workgroup a row, held in registers.
#import held_row
#import index
#import long_row

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale; a multiple of 4, or cols
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, SPAN>;

fn inputs(row: u32, spots: vec4<u32>) -> mat4x4<f32> {
    let at = row * row_quads() + clamped(spots);
    return mat4x4(x[at.x], x[at.y], x[at.z], x[at.w]);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    var held = Held(inputs(row, spots(0u, place.thread)), mat4x4<f32>(), mat4x4<f32>());
    if row_quads() > 1024u {
        held.b = inputs(row, spots(1u, place.thread));
        held.c = inputs(row, spots(2u, place.thread));
    }
    if row_quads() > 3072u {
        let d = inputs(row, spots(3u, place.thread));
        let e = inputs(row, spots(4u, place.thread));
        let f = inputs(row, spots(5u, place.thread));
        quantize_long(row, Long(held.a, held.b, held.c, d, e, f), place);
        return;
    }
    quantize_held(row, held, place);
}
