// Where an invocation stands in its (one-dimensional) workgroup: what the reductions need. With the word
// `subgroups` also in its subgroup, which may have any size, differ from the next one, and hold any threads.

struct Place {
    @builtin(local_invocation_index) thread: u32,
#ifdef subgroups
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
#endif
}

#ifdef subgroups
// One invocation of each subgroup, whichever lanes are there.
fn leads(place: Place) -> bool {
    return place.lane == subgroupBroadcastFirst(place.lane);
}
#endif
