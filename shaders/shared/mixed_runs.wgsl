// A row of a Hadamard transform with a dense factor, (H_order (x) H_256) x: a thread mixes its column of the runs with the dense H_order,
// then the runs are transformed sixteen at a time. The importing shader has `x`, `signs` and `params.order`.
#import sylvester

const WG = 256u;
const RUN = 256u; // columns
const LEVELS = 8u; // of a run
const PARTS = 6u; // sixteen runs each

var<workgroup> reduce_scratch: array<f32, 4096>;
var<private> column: array<f32, 84>; // the thread's, of every run; zeros behind

// Row `run` of H_order times the thread's column; 0 beyond the last.
fn mixed(run: u32) -> f32 {
    let words = (params.order + 31u) / 32u;
    var sum = 0.0;
    for (var i = 0u; i < params.order && run < params.order; i += 4u) {
        let bits = signs[run * words + i / 32u] >> (i % 32u);
        let negative = vec4(bits << 31u, bits << 30u, bits << 29u, bits << 28u) & vec4(0x80000000u);
        let values = vec4(column[i], column[i + 1u], column[i + 2u], column[i + 3u]);
        let signed = bitcast<vec4<f32>>(bitcast<vec4<u32>>(values) ^ negative);
        sum += (signed.x + signed.y) + (signed.z + signed.w);
    }
    return sum;
}

// Sixteen runs from 16 part on, transformed: sixteen elements of run 16 part + thread / 16 that lie together.
fn transformed(part: u32, thread: u32) -> mat4x4<f32> {
    workgroupBarrier(); // what the last part left may still be read
    for (var i = 0u; i < 16u; i++) {
        reduce_scratch[slot(RUN * i + thread)] = mixed(16u * part + i);
    }
    workgroupBarrier();
    let far = thread / 16u * RUN + thread % 16u;
    write16(far, 16u, 64u, butterflies(read16(far, 16u, 64u), vec4(4u, 5u, 6u, 7u), LEVELS));
    workgroupBarrier();
    return butterflies(read16(16u * thread, 1u, 4u), vec4(0u, 1u, 2u, 3u), LEVELS);
}

// The thread's column of every run.
fn load_column(row: u32, thread: u32) {
    for (var run = 0u; run < params.order; run++) {
        column[run] = x[(row * params.order + run) * (RUN / 4u) + thread / 4u][thread % 4u];
    }
}
