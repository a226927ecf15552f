// What products do with a workgroup's 32 outputs that make codes of them (grouped_rows.wgsl, group_codes.wgsl).
#import group_codes
#import grouped_rows

var<workgroup> finished: array<f32, 4u * WARPS>; // slices of four rows each

// Outputs 4 i.. of the workgroup in its i-th thread, of the first 8, of what each warp has: that a thousand threads add up the same took a
// microsecond. All of a workgroup call it together.
fn gathered(own: f32, place: Place) -> vec4<f32> {
    if lane_of(place) % 8u == 0u {
        finished[4u * warp_of(place) + lane_of(place) / 8u] = own;
    }
    workgroupBarrier();
    var sum = vec4<f32>();
    if place.thread < 8u {
        for (var slice = 0u; slice < SLICES; slice++) {
            let at = 4u * (place.thread * SLICES + slice);
            sum += vec4(finished[at], finished[at + 1u], finished[at + 2u], finished[at + 3u]);
        }
    }
    return sum;
}
