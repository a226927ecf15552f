// hadamard_whole.wgsl on cooperative matrices (shared/coop_mix.wgsl). Numbers are scaled by a power of two before, so that the largest of a row is
// as large as it may be. A workgroup makes several rows, where there are many; a part of the next row is loaded as soon as
// the same part of this one is stored. Quads are u = 16 a + 4 i + j, so that threads next to each other store vec4s next to each other.
#import coop_mix
#import index

struct Params {
    rows: u32,
    order: u32, // runs of 256 columns, at most 84
    unit: f32, // scale of the transform
}

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(3) var<uniform> params: Params;

fn inputs(at: u32) -> mat4x4<f32> {
    return mat4x4(x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}

fn store(at: u32, m: mat4x4<f32>) {
    out[at] = m[0];
    out[at + 4u] = m[1];
    out[at + 8u] = m[2];
    out[at + 12u] = m[3];
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
    let pitch = params.order * RUN;
    let end = min(row0 + each, params.rows);
    // Beyond the last run the last again, which has zeros for signs and is not stored.
    let run = min(thread / 4u, params.order - 1u) * RUN;
    let kept = thread / 4u < params.order;
    let source = run + thread % 4u * 4u;
    var at = row0 * pitch + source;
    var now = Parts(inputs(at), inputs(at + 16u), inputs(at + 32u), inputs(at + 48u));
    for (var row = row0; row < end; row++) {
        let v = levels(now);
        let power = power_for(workgroup_max(tops(v.p0, v.p1, v.p2, v.p3), place));
        let factor = bitcast<f32>(power << 23u);
        let unit = bitcast<f32>((254u - power) << 23u) * params.unit;
        let to = row * pitch + run + thread % 4u;
        at = min(row + 1u, end - 1u) * pitch + source;
        let v0 = mixed(thread, warp, v.p0 * factor, factors) * unit;
        now.p0 = inputs(at);
        if kept {
            store(to, v0);
        }
        let v1 = mixed(thread, warp, v.p1 * factor, factors) * unit;
        now.p1 = inputs(at + 16u);
        if kept {
            store(to + 16u, v1);
        }
        let v2 = mixed(thread, warp, v.p2 * factor, factors) * unit;
        now.p2 = inputs(at + 32u);
        if kept {
            store(to + 32u, v2);
        }
        let v3 = mixed(thread, warp, v.p3 * factor, factors) * unit;
        now.p3 = inputs(at + 48u);
        if kept {
            store(to + 48u, v3);
        }
    }
}
