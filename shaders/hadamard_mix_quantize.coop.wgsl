// hadamard_mix_quantize.wgsl on cooperative matrices (shared/coop_mix.wgsl). Numbers are scaled by a power of two before, so that the
// largest of a row is as large as it may be. A workgroup makes several rows, where there are many. Quads are u = 16 a + 4 j + i, and
// registers hold the row all along: first x, then v.
#import coop_mix
#import index
#import int8_codes

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

fn inputs(at: u32) -> mat4x4<f32> {
    return mat4x4(x[at], x[at + 4u], x[at + 8u], x[at + 12u]);
}

fn store(at: u32, m: mat4x4<f32>, inverse: f32) {
    codes[at] = vec4(codes_of(m[0], inverse), codes_of(m[1], inverse), codes_of(m[2], inverse), codes_of(m[3], inverse));
}

// The largest of the groups that the thread's sixteen elements of each part are in, which have `own`.
fn group_tops(own: vec4<f32>, thread: u32) -> vec4<f32> {
    workgroupBarrier(); // sums may still be read
    sums[thread] = own;
    workgroupBarrier();
    var most = own;
    if params.group > 16u {
        most = max(most, sums[thread ^ 1u]);
    }
    if params.group > 32u {
        most = max(most, max(sums[thread ^ 2u], sums[thread ^ 3u]));
    }
    if params.group > 64u {
        most = max(most, most.yxwz);
    }
    if params.group > 128u {
        most = max(most, most.zwxy);
    }
    workgroupBarrier();
    return most;
}

// Sixteen elements from column `at` on, of a group whose largest is `largest`; they are `by` times as large.
fn store_group(at: u32, m: mat4x4<f32>, largest: f32, by: f32) {
    store(at / 16u, m, group_inverse_of(largest) * by);
    if at % params.group == 0u {
        scales[at / params.group] = group_scale_of(largest);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let each = rows_each(params.rows);
    let row0 = linear_workgroup(workgroup, grid) * each;
    if row0 >= params.rows {
        return;
    }
    let warp = warp_of(place);
    let factors = factors_of(thread, warp);
    for (var row = row0; row < min(row0 + each, params.rows); row++) {
        // Beyond the last run the last again, which has zeros for signs.
        let first = (row * params.order + min(thread / 4u, params.order - 1u)) * RUN + thread % 4u;
        let v = levels(Parts(inputs(first), inputs(first + 16u), inputs(first + 32u), inputs(first + 48u)));
        let power = power_for(workgroup_max(tops(v.p0, v.p1, v.p2, v.p3), place));
        let factor = bitcast<f32>(power << 23u);
        let unit = bitcast<f32>((254u - power) << 23u);
        let v0 = mixed(thread, warp, v.p0 * factor, factors);
        let v1 = mixed(thread, warp, v.p1 * factor, factors);
        let v2 = mixed(thread, warp, v.p2 * factor, factors);
        let v3 = mixed(thread, warp, v.p3 * factor, factors);
        if params.group < 4u * RUN * params.order {
            let by = unit * params.unit;
            let most = group_tops(vec4(top16(v0), top16(v1), top16(v2), top16(v3)), thread) * params.unit * unit;
            if thread / 4u < params.order {
                let at = 4u * ((row * params.order + thread / 4u) * RUN) + thread % 4u * 16u;
                store_group(at, v0, most.x, by);
                store_group(at + 64u, v1, most.y, by);
                store_group(at + 128u, v2, most.z, by);
                store_group(at + 192u, v3, most.w, by);
            }
            continue;
        }
        let largest = workgroup_max(tops(v0, v1, v2, v3), place) * params.unit * unit;
        let inverse = inverse_of(largest) * unit * params.unit;
        if thread / 4u < params.order {
            let to = (row * params.order + thread / 4u) * (RUN / 4u) + thread % 4u;
            store(to, v0, inverse);
            store(to + 4u, v1, inverse);
            store(to + 8u, v2, inverse);
            store(to + 12u, v3, inverse);
        }
        if thread == 0u {
            scales[row] = scale_of(largest);
        }
    }
}
