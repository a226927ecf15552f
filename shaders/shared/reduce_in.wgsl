// Sums and maxima over a workgroup. Every thread of the workgroup must call them, and gets the result.
// The importing shader defines `const WG`, its (one-dimensional) workgroup size, a power of two, and `reduce_scratch`,
// WG or more f32 of workgroup memory; with `shared/reduce.wgsl` only the former.
// A fixed tree, or with the word `subgroups` what the driver does in a subgroup and then the subgroups in order:
// the same bits on every run of one driver.
#import place

#ifdef subgroups
fn workgroup_sum(value: f32, place: Place) -> f32 {
    let partial = subgroupAdd(value);
    workgroupBarrier(); // the last call's result may still be read
    if leads(place) {
        reduce_scratch[place.subgroup] = partial;
    }
    workgroupBarrier();
    var sum = reduce_scratch[0];
    for (var i = 1u; i < place.subgroups; i++) {
        sum += reduce_scratch[i];
    }
    return sum;
}

fn workgroup_max(value: f32, place: Place) -> f32 {
    let partial = subgroupMax(value);
    workgroupBarrier();
    if leads(place) {
        reduce_scratch[place.subgroup] = partial;
    }
    workgroupBarrier();
    var largest = reduce_scratch[0];
    for (var i = 1u; i < place.subgroups; i++) {
        largest = max(largest, reduce_scratch[i]);
    }
    return largest;
}
#else
fn workgroup_sum(value: f32, place: Place) -> f32 {
    let thread = place.thread;
    workgroupBarrier(); // the last call's result may still be read
    reduce_scratch[thread] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            reduce_scratch[thread] += reduce_scratch[thread + half];
        }
    }
    workgroupBarrier();
    return reduce_scratch[0];
}

fn workgroup_max(value: f32, place: Place) -> f32 {
    let thread = place.thread;
    workgroupBarrier();
    reduce_scratch[thread] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            reduce_scratch[thread] = max(reduce_scratch[thread], reduce_scratch[thread + half]);
        }
    }
    workgroupBarrier();
    return reduce_scratch[0];
}
#endif
