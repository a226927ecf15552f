// Subgroups of 32 threads: with the word `warps` or `coop_matrix` those of an adapter that always has such. Without them they are every 32
// threads of a workgroup.
#import place

#ifdef warps coop_matrix
fn warp_of(place: Place) -> u32 {
    return place.subgroup;
}

fn lane_of(place: Place) -> u32 {
    return place.lane;
}
#else
var<private> own_lane: u32; // where matrices are emulated: of a thread that has asked for its subgroup

fn warp_of(place: Place) -> u32 {
    own_lane = place.thread % 32u;
    return place.thread / 32u;
}

fn lane_of(place: Place) -> u32 {
    return place.thread % 32u;
}
#endif
