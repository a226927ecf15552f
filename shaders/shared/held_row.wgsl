// Rows of up to three spans, with one scale a row or a group of it: a group is a multiple of 4 columns, and a row has at
// most 1024 of them. The importing shader also has `params.group`, the binding `scales` and `reduce_scratch`, a span of f32.
#import reduce_in
#import spans

const PARTIALS = 3u * 1024u; // in reduce_scratch: first a value of each quad, then one of each thread, or of each group where those are more

struct Held {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
}

// Threads that make one of so many groups, a power of two; where groups are more than threads, a thread makes several.
fn team_of(groups: u32) -> u32 {
    return max(WG >> (32u - countLeadingZeros(groups - 1u)), 1u);
}

fn put4(spots: vec4<u32>, values: vec4<f32>) {
    reduce_scratch[spots.x] = values.x;
    reduce_scratch[spots.y] = values.y;
    reduce_scratch[spots.z] = values.z;
    reduce_scratch[spots.w] = values.w;
}

fn combined(a: f32, b: f32, sum: bool) -> f32 {
    return select(max(a, b), a + b, sum);
}

// Sums or maxima over groups of `quads` quads of a value of each quad, for `of_group` to read. Every thread must call it.
fn reduce_groups(values: array<vec4<f32>, 3>, quads: u32, sum: bool, thread: u32) {
    workgroupBarrier(); // what the scratch memory held before may still be read
    put4(spots(0u, thread), values[0]);
    put4(spots(1u, thread), values[1]);
    put4(spots(2u, thread), values[2]);
    workgroupBarrier();
    let groups = (row_quads() + quads - 1u) / quads;
    let team = team_of(groups);
    let member = thread % team;
    for (var group = thread / team; group < groups; group += WG / team) {
        let first = group * quads;
        let end = min(first + quads, row_quads());
        var partial = 0.0;
        for (var i = first + member; i < end; i += team) {
            partial = combined(partial, reduce_scratch[i], sum);
        }
        reduce_scratch[PARTIALS + group * team + member] = partial;
    }
    for (var half = team / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if member < half {
            let at = PARTIALS + thread;
            reduce_scratch[at] = combined(reduce_scratch[at], reduce_scratch[at + half], sum);
        }
    }
    workgroupBarrier();
}

fn of_group(group: u32, team: u32) -> f32 {
    return reduce_scratch[PARTIALS + group * team];
}

// For each quad, what its group has.
fn of_groups(spots: vec4<u32>, quads: u32) -> vec4<f32> {
    let team = team_of((row_quads() + quads - 1u) / quads);
    let group = clamped(spots) / quads;
    return vec4(of_group(group.x, team), of_group(group.y, team), of_group(group.z, team), of_group(group.w, team));
}

fn inverses(largest: vec4<f32>) -> vec4<f32> {
    let low = vec2(group_inverse_of(largest.x), group_inverse_of(largest.y));
    return vec4(low, group_inverse_of(largest.z), group_inverse_of(largest.w));
}

// Codes and scales of a row by groups.
fn quantize_groups(row: u32, held: Held, thread: u32) {
    let a = spots(0u, thread);
    let b = spots(1u, thread);
    let c = spots(2u, thread);
    let quads = params.group / 4u;
    reduce_groups(array(tops(held.a, a), tops(held.b, b), tops(held.c, c)), quads, false, thread);
    put_codes(row, a, held.a, inverses(of_groups(a, quads)));
    put_codes(row, b, held.b, inverses(of_groups(b, quads)));
    put_codes(row, c, held.c, inverses(of_groups(c, quads)));
    let groups = (row_quads() + quads - 1u) / quads;
    for (var group = thread; group < groups; group += WG) {
        scales[row * groups + group] = group_scale_of(of_group(group, team_of(groups)));
    }
}

// Codes and scales of a row.
fn quantize_held(row: u32, held: Held, place: Place) {
    if params.group < params.cols {
        quantize_groups(row, held, place.thread);
        return;
    }
    let a = spots(0u, place.thread);
    let b = spots(1u, place.thread);
    let c = spots(2u, place.thread);
    let largest = workgroup_max(top(max(max(tops(held.a, a), tops(held.b, b)), tops(held.c, c))), place);
    let inverse = vec4(inverse_of(largest));
    put_codes(row, a, held.a, inverse);
    put_codes(row, b, held.b, inverse);
    put_codes(row, c, held.c, inverse);
    if place.thread == 0u {
        scales[row] = scale_of(largest);
    }
}
