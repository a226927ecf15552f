// A reduction, a broadcast and an exchange through workgroup memory, in integers, so that a dropped or misplaced
// barrier gives another result (wgpu #4500, MoltenVK #2711). Workgroup w works on the first `size` = first + w
// elements, at most 1024. `rounds` times: all = sum; element i becomes 3 * element (i + 1 + all % size) % size + all.
// The format word is the number of threads. Threads beyond the size return before the last stores.
#import index

struct Params {
    first: u32, // smallest size
    count: u32, // sizes
    rounds: u32,
}

#ifdef wg25
const WG = 25u;
#endif
#ifdef wg32
const WG = 32u;
#endif
#ifdef wg33
const WG = 33u;
#endif
#ifdef wg65
const WG = 65u;
#endif
#ifdef wg128
const WG = 128u;
#endif
#ifdef wg256
const WG = 256u;
#endif
const MOST = 1024u;

@group(0) @binding(0) var<storage, read> x: array<u32>; // [1024]
@group(0) @binding(1) var<storage, read_write> out: array<u32>; // [count, 1024]
@group(0) @binding(2) var<uniform> params: Params;

var<workgroup> elements: array<u32, MOST>;
var<workgroup> sums: array<u32, MOST>;

// The sum of the elements, to every thread.
fn all_sum(size: u32, thread: u32) -> u32 {
    for (var i = thread; i < size; i += WG) {
        sums[i] = elements[i];
    }
    for (var n = size; n > 1u; n = (n + 1u) / 2u) {
        workgroupBarrier();
        let half = (n + 1u) / 2u;
        for (var i = thread; i + half < n; i += WG) {
            sums[i] += sums[i + half];
        }
    }
    workgroupBarrier();
    return sums[0];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    if item >= params.count {
        return;
    }
    let size = min(params.first + item, MOST);
    for (var i = thread; i < size; i += WG) {
        elements[i] = x[i];
    }
    for (var round = 0u; round < params.rounds; round++) {
        let all = all_sum(size, thread);
        workgroupBarrier(); // the sum may still be read
        for (var i = thread; i < size; i += WG) {
            sums[i] = 3u * elements[(i + 1u + all % size) % size] + all;
        }
        workgroupBarrier();
        for (var i = thread; i < size; i += WG) {
            elements[i] = sums[i];
        }
    }
    for (var i = thread; i < MOST; i += WG) {
        if i >= size {
            out[item * MOST + i] = 0u;
        }
    }
    if thread >= size {
        return;
    }
    for (var i = thread; i < size; i += WG) {
        out[item * MOST + i] = elements[i];
    }
}
