// The Hadamard transform of short runs of columns, of which threads next to each other have 4 each.
#import warps

// Across 4 columns, then across threads: runs of 2^log_run columns, times unit. All of a workgroup call it together.
fn transformed(own: vec4<f32>, log_run: u32, unit: f32, place: Place) -> vec4<f32> {
    var v = own;
    if log_run > 0u {
        v = vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    }
    if log_run > 1u {
        v = vec4(v.xy + v.zw, v.xy - v.zw);
    }
    for (var level = 2u; level < log_run; level++) {
        let by = 1u << (level - 2u);
        v = across(v, by, place) + v * select(1.0, -1.0, (lane_of(place) & by) != 0u);
    }
    return v * unit;
}
