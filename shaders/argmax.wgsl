// out[r, p] = index of the largest logit of part p of a row, the lowest of equals. One workgroup a part, in steps of four
// loads a thread that are all under way at once.
#import best
#import index
#import order
#import place

struct Params {
    rows: u32,
    vocab: u32,
    parts: u32, // of a row
    part: u32, // logits of a part
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [rows, vocab]
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [rows, parts]
@group(0) @binding(2) var<uniform> params: Params;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let index = linear_workgroup(workgroup, grid);
    let row = index / params.parts;
    if row >= params.rows {
        return;
    }
    let first = index % params.parts * params.part;
    let last = min(first + params.part, params.vocab) - 1u;
    let start = row * params.vocab;
    var mine = vec2(0u, last);
    for (var i = first + place.thread; i <= last; i += 4u * WG) {
        // Beyond the end the last one again, which changes nothing.
        let at = min(vec4(i, i + WG, i + 2u * WG, i + 3u * WG), vec4(last));
        let v = vec4(logits[start + at.x], logits[start + at.y], logits[start + at.z], logits[start + at.w]);
        let low = better(vec2(order_key(v.x), at.x), vec2(order_key(v.y), at.y));
        let high = better(vec2(order_key(v.z), at.z), vec2(order_key(v.w), at.w));
        mine = better(mine, better(low, high));
    }
    let winner = best_of_workgroup(mine, place);
    if place.thread == 0u {
        out[index] = winner;
    }
}
