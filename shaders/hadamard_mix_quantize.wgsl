// A whole Hadamard transform, both of its factors, and int8 codes of what it gives (shared/int8_codes.wgsl), which is not
// kept: v = unit * (H_order (x) H_256) x over rows of order * 256 columns, codes and scales of v. One workgroup a row; a
// thread mixes its column of the runs with the dense H_order, then the runs are transformed sixteen at a time.
#import index
#import int8_codes
#import reduce_in
#import sylvester

struct Params {
    rows: u32,
    order: u32, // runs of 256 columns, at most 96
    unit: f32, // scale of the transform
    group: u32, // columns a scale: 16, 32, 64, 128, 256 or all
}

const WG = 256u;
const RUN = 256u; // columns
const LEVELS = 8u; // of a run
const PARTS = 6u; // sixteen runs each

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> codes: array<vec4<u32>>; // [rows, 256 order] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> reduce_scratch: array<f32, 4096>;
var<private> column: array<f32, 96>; // the thread's, of every run; zeros behind

// Row `run` of H_order times the thread's column; 0 beyond the last.
fn mixed(run: u32) -> f32 {
    let words = (params.order + 31u) / 32u;
    var sum = 0.0;
    for (var i = 0u; i < params.order && run < params.order; i += 4u) {
        let bits = signs[run * words + i / 32u] >> (i % 32u);
        let negative = vec4(bits << 31u, bits << 30u, bits << 29u, bits << 28u) & vec4(0x80000000u);
        let values = vec4(column[i], column[i + 1u], column[i + 2u], column[i + 3u]);
        let signed = bitcast<vec4<f32>>(bitcast<vec4<u32>>(values) ^ negative);
        sum += (signed.x + signed.y) + (signed.z + signed.w);
    }
    return sum;
}

// Sixteen runs from 16 part on, transformed: sixteen elements of run 16 part + thread / 16 that lie together.
fn transformed(part: u32, thread: u32) -> mat4x4<f32> {
    workgroupBarrier(); // what the last part left may still be read
    for (var i = 0u; i < 16u; i++) {
        reduce_scratch[slot(RUN * i + thread)] = mixed(16u * part + i);
    }
    workgroupBarrier();
    let far = thread / 16u * RUN + thread % 16u;
    write16(far, 16u, 64u, butterflies(read16(far, 16u, 64u), vec4(4u, 5u, 6u, 7u), LEVELS));
    workgroupBarrier();
    return butterflies(read16(16u * thread, 1u, 4u), vec4(0u, 1u, 2u, 3u), LEVELS);
}

fn top(m: mat4x4<f32>) -> f32 {
    let quads = max(max(abs(m[0]), abs(m[1])), max(abs(m[2]), abs(m[3])));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}

// Codes of sixteen elements.
fn words_of(m: mat4x4<f32>, inverse: f32) -> vec4<u32> {
    return vec4(codes_of(m[0], inverse), codes_of(m[1], inverse), codes_of(m[2], inverse), codes_of(m[3], inverse));
}

// The largest of the thread's group, from what each thread has of its sixteen elements of a part.
fn group_top(value: f32, thread: u32) -> f32 {
    workgroupBarrier(); // the last part's may still be read
    reduce_scratch[thread] = value;
    workgroupBarrier();
    let team = params.group / 16u;
    let first = thread / team * team;
    var largest = value;
    for (var i = first; i < first + team; i++) {
        largest = max(largest, reduce_scratch[i]);
    }
    return largest;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    for (var run = 0u; run < params.order; run++) {
        column[run] = x[(row * params.order + run) * (RUN / 4u) + thread / 4u][thread % 4u];
    }
    var held: array<mat4x4<f32>, PARTS>;
    var largest = 0.0;
    let parts = (params.order + 15u) / 16u;
    for (var part = 0u; part < parts; part++) {
        held[part] = transformed(part, thread) * params.unit;
        largest = max(largest, top(held[part]));
    }
    let whole = params.group == RUN * params.order;
    largest = workgroup_max(largest, place);
    for (var part = 0u; part < parts; part++) {
        var of_group = largest;
        if !whole {
            of_group = group_top(top(held[part]), thread);
        }
        let run = 16u * part + thread / 16u;
        if run < params.order {
            let column = (row * params.order + run) * RUN + thread % 16u * 16u;
            codes[column / 16u] = words_of(held[part], select(group_inverse_of(of_group), inverse_of(of_group), whole));
            if !whole && column % params.group == 0u {
                scales[column / params.group] = group_scale_of(of_group);
            }
        }
    }
    if whole && thread == 0u {
        scales[row] = scale_of(largest);
    }
}
