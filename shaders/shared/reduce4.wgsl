// Sums of four values at once over a workgroup, in f32 or (exactly) in i32. Every thread must call them, once a
// shader; thread r < 4 gets sum r, so that four threads go on side by side. The importing shader defines `const WG`, a
// multiple of 8. Few barriers, since they are slow on software drivers. 8 threads add every 8th value, then one thread a
// sum adds those, in a fixed order; with the word `subgroups`, the driver adds within a subgroup and the last step the
// subgroups' sums in order.
#import place

var<workgroup> reduce4_scratch: array<vec4<u32>, WG>;

#ifdef subgroups
fn workgroup_sum4(value: vec4<f32>, place: Place) -> f32 {
    let partial = subgroupAdd(value);
    if leads(place) {
        reduce4_scratch[place.subgroup] = bitcast<vec4<u32>>(partial);
    }
    workgroupBarrier();
    return column_sum(place.thread, place.subgroups);
}

fn workgroup_sum4i(value: vec4<i32>, place: Place) -> i32 {
    let partial = subgroupAdd(value);
    if leads(place) {
        reduce4_scratch[place.subgroup] = bitcast<vec4<u32>>(partial);
    }
    workgroupBarrier();
    return column_sum_i(place.thread, place.subgroups);
}
#else
fn workgroup_sum4(value: vec4<f32>, place: Place) -> f32 {
    let thread = place.thread;
    reduce4_scratch[thread] = bitcast<vec4<u32>>(value);
    workgroupBarrier();
    if thread < 8u {
        var sum = value;
        for (var i = thread + 8u; i < WG; i += 8u) {
            sum += bitcast<vec4<f32>>(reduce4_scratch[i]);
        }
        reduce4_scratch[thread] = bitcast<vec4<u32>>(sum);
    }
    workgroupBarrier();
    return column_sum(thread, 8u);
}

fn workgroup_sum4i(value: vec4<i32>, place: Place) -> i32 {
    let thread = place.thread;
    reduce4_scratch[thread] = bitcast<vec4<u32>>(value);
    workgroupBarrier();
    if thread < 8u {
        var sum = value;
        for (var i = thread + 8u; i < WG; i += 8u) {
            sum += bitcast<vec4<i32>>(reduce4_scratch[i]);
        }
        reduce4_scratch[thread] = bitcast<vec4<u32>>(sum);
    }
    workgroupBarrier();
    return column_sum_i(thread, 8u);
}
#endif

// Component `thread` of the first `count` values; 0 for other threads.
fn column_sum(thread: u32, count: u32) -> f32 {
    var sum = 0.0;
    if thread < 4u {
        for (var i = 0u; i < count; i++) {
            sum += bitcast<f32>(reduce4_scratch[i][thread]);
        }
    }
    return sum;
}

fn column_sum_i(thread: u32, count: u32) -> i32 {
    var sum = 0i;
    if thread < 4u {
        for (var i = 0u; i < count; i++) {
            sum += bitcast<i32>(reduce4_scratch[i][thread]);
        }
    }
    return sum;
}
