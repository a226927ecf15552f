// What products do with a workgroup's 32 outputs that make codes of them (grouped_rows.wgsl, group_codes.wgsl).
#import group_codes
#import grouped_rows

var<workgroup> finished: array<vec4<f32>, WARPS>; // slices of four rows each

// Outputs 4i.. of the workgroup, i the thread's place in 8, of what each warp has. All of a workgroup call it together.
fn gathered(own: vec4<f32>, place: Place) -> vec4<f32> {
    if lane_of(place) == 0u {
        finished[warp_of(place)] = own;
    }
    workgroupBarrier();
    let first = place.thread % 8u * SLICES;
    var sum = finished[first];
    for (var i = 1u; i < SLICES; i++) {
        sum += finished[first + i];
    }
    return sum;
}
