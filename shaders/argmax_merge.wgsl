// out[r] = the candidate (index) of a row whose logit is the largest, the lowest of equals. One workgroup a row.
#import best
#import index
#import order
#import place

struct Params {
    rows: u32,
    vocab: u32,
    candidates: u32, // of a row
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [rows, vocab]
@group(0) @binding(1) var<storage, read> candidates: array<u32>; // [rows, candidates]
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

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
    var mine = vec2(0u, 0xffffffffu);
    for (var i = place.thread; i < params.candidates; i += WG) {
        let candidate = candidates[row * params.candidates + i];
        mine = better(mine, vec2(order_key(logits[row * params.vocab + candidate]), candidate));
    }
    let winner = best_of_workgroup(mine, place);
    if place.thread == 0u {
        out[row] = winner;
    }
}
