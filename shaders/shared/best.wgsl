// The best of a workgroup's candidates, each a key (shared/order.wgsl) and an index. The importing shader has `const WG`.

// Key and index of each thread's or subgroup's best.
var<workgroup> best: array<vec2<u32>, WG>;

fn better(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(b, a, a.x > b.x || (a.x == b.x && a.y < b.y));
}

// The lowest index of the largest key, for thread 0. Every thread must call it.
#ifdef subgroups
fn best_of_workgroup(mine: vec2<u32>, place: Place) -> u32 {
    let top = subgroupMax(mine.x);
    let first = subgroupMin(select(0xffffffffu, mine.y, mine.x == top));
    if leads(place) {
        best[place.subgroup] = vec2(top, first);
    }
    workgroupBarrier();
    var winner = best[0];
    if place.thread == 0u {
        for (var i = 1u; i < place.subgroups; i++) {
            winner = better(winner, best[i]);
        }
    }
    return winner.y;
}
#else
fn best_of_workgroup(mine: vec2<u32>, place: Place) -> u32 {
    let thread = place.thread;
    best[thread] = mine;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            best[thread] = better(best[thread], best[thread + half]);
        }
    }
    return best[0].y;
}
#endif
