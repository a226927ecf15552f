// Sums of four values at once over a workgroup, in f32 or (exactly) in i32. Every thread must call them, once a
// shader; thread 0 gets the result. The importing shader defines `const WG`, a multiple of 8. Few barriers, since
// they are slow on software drivers. 8 threads add every 8th value, then one thread adds their sums, in a fixed
// order; with the word `subgroups`, the driver adds within a subgroup and thread 0 the subgroups' sums in order.
#import place

var<workgroup> reduce4_scratch: array<vec4<u32>, WG>;

#ifdef subgroups
fn workgroup_sum4(value: vec4<f32>, place: Place) -> vec4<f32> {
    let partial = subgroupAdd(value);
    if leads(place) {
        reduce4_scratch[place.subgroup] = bitcast<vec4<u32>>(partial);
    }
    workgroupBarrier();
    var sum = vec4<f32>();
    if place.thread == 0u {
        for (var i = 0u; i < place.subgroups; i++) {
            sum += bitcast<vec4<f32>>(reduce4_scratch[i]);
        }
    }
    return sum;
}

fn workgroup_sum4i(value: vec4<i32>, place: Place) -> vec4<i32> {
    let partial = subgroupAdd(value);
    if leads(place) {
        reduce4_scratch[place.subgroup] = bitcast<vec4<u32>>(partial);
    }
    workgroupBarrier();
    var sum = vec4<i32>();
    if place.thread == 0u {
        for (var i = 0u; i < place.subgroups; i++) {
            sum += bitcast<vec4<i32>>(reduce4_scratch[i]);
        }
    }
    return sum;
}
#else
fn workgroup_sum4(value: vec4<f32>, place: Place) -> vec4<f32> {
    let thread = place.thread;
    reduce4_scratch[thread] = bitcast<vec4<u32>>(value);
    workgroupBarrier();
    var sum = value;
    if thread < 8u {
        for (var i = thread + 8u; i < WG; i += 8u) {
            sum += bitcast<vec4<f32>>(reduce4_scratch[i]);
        }
        reduce4_scratch[thread] = bitcast<vec4<u32>>(sum);
    }
    workgroupBarrier();
    if thread == 0u {
        for (var i = 1u; i < 8u; i++) {
            sum += bitcast<vec4<f32>>(reduce4_scratch[i]);
        }
    }
    return sum;
}

fn workgroup_sum4i(value: vec4<i32>, place: Place) -> vec4<i32> {
    let thread = place.thread;
    reduce4_scratch[thread] = bitcast<vec4<u32>>(value);
    workgroupBarrier();
    var sum = value;
    if thread < 8u {
        for (var i = thread + 8u; i < WG; i += 8u) {
            sum += bitcast<vec4<i32>>(reduce4_scratch[i]);
        }
        reduce4_scratch[thread] = bitcast<vec4<u32>>(sum);
    }
    workgroupBarrier();
    if thread == 0u {
        for (var i = 1u; i < 8u; i++) {
            sum += bitcast<vec4<i32>>(reduce4_scratch[i]);
        }
    }
    return sum;
}
#endif
