// out[r] = index of the largest logit of a row, the lowest of equals. One workgroup a row.
#import index
#import order
#import place

struct Params {
    rows: u32,
    vocab: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [rows, vocab]
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [rows]
@group(0) @binding(2) var<uniform> params: Params;

// Key and index of each thread's or subgroup's best.
var<workgroup> best: array<vec2<u32>, WG>;

fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, a.x > b.x || (a.x == b.x && a.y < b.y));
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
    var mine = vec2(0u, params.vocab - 1u);
    for (var i = thread; i < params.vocab; i += WG) {
        mine = better(mine, vec2(order_key(logits[row * params.vocab + i]), i));
    }
#ifdef subgroups
    let top = subgroupMax(mine.x);
    let first = subgroupMin(select(0xffffffffu, mine.y, mine.x == top));
    if leads(place) {
        best[place.subgroup] = vec2(top, first);
    }
    workgroupBarrier();
    if thread == 0u {
        var winner = best[0];
        for (var i = 1u; i < place.subgroups; i++) {
            winner = better(winner, best[i]);
        }
        out[row] = winner.y;
    }
#else
    best[thread] = mine;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            best[thread] = better(best[thread], best[thread + half]);
        }
    }
    if thread == 0u {
        out[row] = best[0].y;
    }
#endif
}
