// A whole Hadamard transform, both of its factors, and int8 codes of what it gives (shared/int8_codes.wgsl), which is not
// kept: v = unit * (H_order (x) H_256) x over rows of order * 256 columns, codes and scales of v. One workgroup a row.
#import index
#import int8_codes
#import mixed_runs
#import reduce_in
#import top

struct Params {
    rows: u32,
    order: u32, // runs of 256 columns, at most 84
    unit: f32, // scale of the transform
    group: u32, // columns a scale: 16, 32, 64, 128, 256 or all
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> codes: array<vec4<u32>>; // [rows, 256 order] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(4) var<uniform> params: Params;

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
    load_column(row, thread);
    var held: array<mat4x4<f32>, PARTS>;
    var largest = 0.0;
    let parts = (params.order + 15u) / 16u;
    for (var part = 0u; part < parts; part++) {
        held[part] = transformed(part, thread) * params.unit;
        largest = max(largest, top16(held[part]));
    }
    let whole = params.group == RUN * params.order;
    largest = workgroup_max(largest, place);
    for (var part = 0u; part < parts; part++) {
        var of_group = largest;
        if !whole {
            of_group = group_top(top16(held[part]), thread);
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
