// Products of one token's codes with a weight whose rows, and whose groups, are whole vec4s of words (the format `quads`):
// every load of codes is 16 bytes, and eight of them, two of each of four rows, start before the first is needed.
// Memory then decides the speed: 64 threads have 8 KiB on the way, and eight such workgroups an SM more than the 16 KiB
// that 3 TB/s at 0.7 us keep. The importing shader has the bindings `codes`, `scales`, `weight` and `weight_scales` and imports
// quad_int4 or quad_int8.
#import quad_rows
#import rows4
#import weight_scales

#ifdef long
const WG = 128u; // a weight of few long rows has too few workgroups to keep memory busy with 64 threads each
#else
const WG = 64u;
#endif

fn codes_at(at: u32) -> vec4<u32> {
    return codes[at];
}

// Where each row has one scale: one int32 sum.
fn whole_rows(row: u32, quads: u32, place: Place) -> f32 {
    let rows = rows4(row) * quads;
    let factor = four_scales(first_scales(row, 1u))[place.thread % 4u] * scales[0];
    var sums = vec4<i32>();
    for (var at = place.thread; at < quads; at += 2u * WG) {
        let next = min(at + WG, quads - 1u);
        let w0 = fetch_rows(rows, at);
        let w1 = fetch_rows(rows, next);
        let x0 = fetch_token(at);
        let x1 = fetch_token(next);
        sums += dot_rows(x0, w0) + select(vec4<i32>(), dot_rows(x1, w1), at + WG < quads);
    }
    return f32(workgroup_sum4i(sums, place) >> SHIFT) * factor;
}

// Else each vec4's sum is scaled, and the rest is f32.
fn spans(row: u32, quads: u32, place: Place) -> f32 {
    let rows = rows4(row) * quads;
    let row_scales = first_scales(row, (params.k + params.group - 1u) / params.group);
    let group = params.group / QUAD;
    let x_group = params.x_group / QUAD;
    var sums = vec4<f32>();
    for (var at = place.thread; at < quads; at += 2u * WG) {
        let next = min(at + WG, quads - 1u);
        let w0 = fetch_rows(rows, at);
        let w1 = fetch_rows(rows, next);
        let x0 = fetch_token(at);
        let x1 = fetch_token(next);
        let factor0 = four_scales(row_scales + at / group) * scales[at / x_group];
        let factor1 = four_scales(row_scales + next / group) * scales[next / x_group];
        let y1 = vec4<f32>(dot_rows(x1, w1) >> vec4(SHIFT)) * factor1;
        sums += vec4<f32>(dot_rows(x0, w0) >> vec4(SHIFT)) * factor0 + select(vec4<f32>(), y1, at + WG < quads);
    }
    return workgroup_sum4(sums, place);
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let row = 4u * linear_workgroup(workgroup, grid);
    if row >= params.n {
        return;
    }
    let quads = params.k / QUAD;
    let mine = min(row + place.thread, params.n - 1u);
    var before = 0.0;
    if place.thread < 4u {
        before = addend(mine);
    }
    var y = 0.0;
    if min(params.group, params.x_group) == params.k {
        y = whole_rows(row, quads, place);
    } else {
        y = spans(row, quads, place);
    }
    if place.thread < 4u && row + place.thread < params.n {
        store_onto(mine, y, before);
    }
}
