// Sums of four values at once over a workgroup, in f32 or (exactly) in i32. Every thread must call them; thread 0
// gets the result. The importing shader defines `const WG`, a multiple of 8. Two barriers, since barriers are
// slow on software drivers: 8 threads add every 8th value, then one thread adds their sums. A fixed order.

var<workgroup> reduce4_scratch: array<vec4<u32>, WG>;

fn workgroup_sum4(value: vec4<f32>, thread: u32) -> vec4<f32> {
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

fn workgroup_sum4i(value: vec4<i32>, thread: u32) -> vec4<i32> {
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
