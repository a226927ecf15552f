// What the 32 threads of a subgroup tell each other, in shaders on matrices (shared/matrices.wgsl). Emulated it goes through workgroup memory, and all
// of a workgroup must call it together. The importing shader has `const WG`.
#import place

#ifdef coop_emulated
var<workgroup> told: array<f32, WG>;

fn tell(v: f32, place: Place) {
    workgroupBarrier(); // what was told before may still be read
    told[place.thread] = v;
    workgroupBarrier();
}

fn warp_max(v: f32, place: Place) -> f32 {
    tell(v, place);
    var most = v;
    for (var i = 0u; i < 32u; i++) {
        most = max(most, told[place.thread / 32u * 32u + i]);
    }
    return most;
}

// What the thread of this lane has.
fn from_lane(v: f32, lane: u32, place: Place) -> f32 {
    tell(v, place);
    return told[place.thread / 32u * 32u + lane];
}
#else
fn warp_max(v: f32, place: Place) -> f32 {
    return subgroupMax(v);
}

// What the thread of this lane has.
fn from_lane(v: f32, lane: u32, place: Place) -> f32 {
    return subgroupShuffle(v, lane);
}
#endif
