// The Hadamard transform of short runs of columns, of which threads next to each other have 4 each.
#import warps

// Sums and differences with the thread that is `by` apart.
fn crossed_quad(v: vec4<f32>, by: u32, place: Place) -> vec4<f32> {
    return across(v, by, place) + v * select(1.0, -1.0, (lane_of(place) & by) != 0u);
}

// Across 4 columns, then across threads: runs of 2^log_run columns, at most 32, times unit. All of a workgroup call it together. Without a
// loop: around one of unknown length NVIDIA's compiler keeps a caller's array in memory.
fn transformed(own: vec4<f32>, log_run: u32, unit: f32, place: Place) -> vec4<f32> {
    var v = own;
    if log_run > 0u {
        v = vec4(v.x + v.y, v.x - v.y, v.z + v.w, v.z - v.w);
    }
    if log_run > 1u {
        v = vec4(v.xy + v.zw, v.xy - v.zw);
    }
    if log_run > 2u {
        v = crossed_quad(v, 1u, place);
    }
    if log_run > 3u {
        v = crossed_quad(v, 2u, place);
    }
    if log_run > 4u {
        v = crossed_quad(v, 4u, place);
    }
    return v * unit;
}
