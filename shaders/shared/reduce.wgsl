// Sums and maxima over a workgroup. Every thread of the workgroup must call them, and gets the result.
// The importing shader defines `const WG`, its (one-dimensional) workgroup size, a power of two.
// A fixed tree: the same bits on every run of one driver.

var<workgroup> reduce_scratch: array<f32, WG>;

fn workgroup_sum(value: f32, thread: u32) -> f32 {
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

fn workgroup_max(value: f32, thread: u32) -> f32 {
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
