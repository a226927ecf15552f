// attention_merge, and int8 codes of what it makes with a scale for each 32 columns, as products of one token take them
// (shared/grouped_rows.wgsl). One workgroup a row (token, query head).
#import index
#import int8_codes
#import merged_parts
#import top

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    head_dim: u32, // a multiple of 32
    max: u32, // rows of a sequence's cache
    splits: u32, // at most WG
}

const QUADS = 8u; // of a group of 32 columns

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>; // [sequences * tokens * heads * splits, head_dim]
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>; // [sequences * tokens * heads * splits, 2] peak and sum
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> codes: array<u32>; // [sequences * tokens, heads * head_dim] int8
@group(0) @binding(4) var<storage, read_write> scales: array<f32>; // [sequences * tokens, heads * head_dim / 32]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> tops: array<f32, WG>; // the largest magnitude of each thread's four columns

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.sequences * params.tokens * params.heads {
        return;
    }
    let y = merged(row, place);
    tops[place.thread] = top(y);
    workgroupBarrier();
    if place.thread >= params.head_dim / 4u {
        return;
    }
    let first = place.thread / QUADS * QUADS;
    var largest = 0.0;
    for (var i = 0u; i < QUADS; i++) {
        largest = max(largest, tops[first + i]);
    }
    let at = row * params.head_dim / 4u + place.thread;
    codes[at] = codes_of(y, group_inverse_of(largest));
    if place.thread == first {
        scales[at / QUADS] = group_scale_of(largest);
    }
}
