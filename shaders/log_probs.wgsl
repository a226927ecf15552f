// What rows of logits say: ln p of a target, and the likeliest indices with theirs, the likeliest first, the lowest of equals.
// One workgroup a row. ln p = (logit - largest) - ln(sum of exp(logit - largest)), so what is likely loses no digits.
#import best
#import index
#import order
#import reduce

struct Params {
    rows: u32,
    vocab: u32,
    most: u32, // of the likeliest
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [rows, vocab]
@group(0) @binding(1) var<storage, read> targets: array<u32>; // [rows]
@group(0) @binding(2) var<storage, read_write> values: array<f32>; // [rows, 1 + most] ln p of the target, and of the likeliest
@group(0) @binding(3) var<storage, read_write> ids: array<u32>; // [rows, most]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> found: u32;

// Four loads that are under way at once; beyond the end the last logit again.
fn places(i: u32) -> vec4<u32> {
    return min(vec4(i, i + WG, i + 2u * WG, i + 3u * WG), vec4(params.vocab - 1u));
}

fn four(start: u32, at: vec4<u32>) -> vec4<f32> {
    return vec4(logits[start + at.x], logits[start + at.y], logits[start + at.z], logits[start + at.w]);
}

// Key and index of a logit that comes after `last` in the order of likelihood; of another what is no better than any.
fn if_after(last: vec2<u32>, logit: f32, at: u32) -> vec2<u32> {
    let key = order_key(logit);
    let after = key < last.x || (key == last.x && at > last.y);
    return select(vec2(0u, params.vocab - 1u), vec2(key, at), after);
}

// The best of those that come after `last`, for every thread.
fn next(start: u32, last: vec2<u32>, place: Place) -> vec2<u32> {
    var mine = vec2(0u, params.vocab - 1u);
    for (var i = place.thread; i < params.vocab; i += 4u * WG) {
        let at = places(i);
        let v = four(start, at);
        let low = better(if_after(last, v.x, at.x), if_after(last, v.y, at.y));
        let high = better(if_after(last, v.z, at.z), if_after(last, v.w, at.w));
        mine = better(mine, better(low, high));
    }
    let winner = best_of_workgroup(mine, place);
    if place.thread == 0u {
        found = winner;
    }
    workgroupBarrier();
    return vec2(order_key(logits[start + found]), found);
}

fn sum_of_exponentials(start: u32, largest: f32, place: Place) -> f32 {
    var sums = vec4(0.0);
    for (var i = place.thread; i < params.vocab; i += 4u * WG) {
        let inside = vec4(i, i + WG, i + 2u * WG, i + 3u * WG) < vec4(params.vocab);
        sums += select(vec4(0.0), exp(four(start, places(i)) - largest), inside);
    }
    return workgroup_sum((sums.x + sums.y) + (sums.z + sums.w), place);
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
    let start = row * params.vocab;
    let out = row * (params.most + 1u);
    var last = next(start, vec2(0xffffffffu), place);
    let largest = logits[start + last.y];
    let log_sum = log(sum_of_exponentials(start, largest, place));
    for (var rank = 0u; rank < params.most; rank++) {
        if rank > 0u {
            last = next(start, last, place);
        }
        if place.thread == 0u {
            ids[row * params.most + rank] = last.y;
            values[out + 1u + rank] = (logits[start + last.y] - largest) - log_sum;
        }
    }
    if place.thread == 0u {
        values[out] = (logits[start + targets[row]] - largest) - log_sum;
    }
}
