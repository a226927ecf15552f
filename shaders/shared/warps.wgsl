// What subgroups of 32 threads (shared/warp.wgsl) tell each other. Emulated it goes through workgroup memory, on any adapter: then all of a workgroup
// must call what is here together. The importing shader defines `const WG`.
#import warp

#ifdef warps coop_matrix
// What the thread `by` (a power of two) beside this one has.
fn across(v: vec4<f32>, by: u32, place: Place) -> vec4<f32> {
    return subgroupShuffleXor(v, by);
}

fn across_words(v: vec4<u32>, by: u32, place: Place) -> vec4<u32> {
    return subgroupShuffleXor(v, by);
}

fn warp_sum(v: f32, place: Place) -> f32 {
    return subgroupAdd(v);
}

fn warp_max(v: f32, place: Place) -> f32 {
    return subgroupMax(v);
}

// What the thread of this lane has.
fn from_lane(v: f32, lane: u32, place: Place) -> f32 {
    return subgroupShuffle(v, lane);
}
#else
var<workgroup> told: array<vec4<f32>, WG>;

// What the thread `by` (a power of two) beside this one has.
fn across(v: vec4<f32>, by: u32, place: Place) -> vec4<f32> {
    workgroupBarrier();
    told[place.thread] = v;
    workgroupBarrier();
    return told[place.thread ^ by];
}

fn across_words(v: vec4<u32>, by: u32, place: Place) -> vec4<u32> {
    return bitcast<vec4<u32>>(across(bitcast<vec4<f32>>(v), by, place));
}

fn warp_sum(v: f32, place: Place) -> f32 {
    var sum = v;
    for (var by = 1u; by < 32u; by *= 2u) {
        sum += across(vec4(sum), by, place).x;
    }
    return sum;
}

fn warp_max(v: f32, place: Place) -> f32 {
    var most = v;
    for (var by = 1u; by < 32u; by *= 2u) {
        most = max(most, across(vec4(most), by, place).x);
    }
    return most;
}

// What the thread of this lane has.
fn from_lane(v: f32, lane: u32, place: Place) -> f32 {
    workgroupBarrier();
    told[place.thread] = vec4(v);
    workgroupBarrier();
    return told[32u * warp_of(place) + lane].x;
}
#endif

// What the thread of this lane and the next three have.
fn four_from(v: f32, lane: u32, place: Place) -> vec4<f32> {
    let low = vec2(from_lane(v, lane, place), from_lane(v, lane + 1u, place));
    return vec4(low, from_lane(v, lane + 2u, place), from_lane(v, lane + 3u, place));
}

// Sums of four numbers over the subgroup, of which threads 8 i and the next seven get number i's: by halves, so six numbers change places
// where four sums of their own would take twenty.
fn sum_of_four(v: vec4<f32>, place: Place) -> f32 {
    let far = (lane_of(place) & 16u) != 0u;
    let given = select(v.zw, v.xy, far);
    let pair = select(v.xy, v.zw, far) + across(vec4(given, given), 16u, place).xy;
    let near = (lane_of(place) & 8u) != 0u;
    var sum = select(pair.x, pair.y, near) + across(vec4(select(pair.y, pair.x, near)), 8u, place).x;
    for (var by = 4u; by > 0u; by /= 2u) {
        sum += across(vec4(sum), by, place).x;
    }
    return sum;
}

// Largest of each thread and those it shares a run of `threads` with, a power of two up to 32.
fn run_max(own: vec4<f32>, threads: u32, place: Place) -> vec4<f32> {
    var most = own;
    for (var by = 1u; by < threads; by *= 2u) {
        most = max(most, across(most, by, place));
    }
    return most;
}

// A level of butterflies (butterflies.wgsl) between threads `by` (a power of two) apart.
fn crossed(m: mat4x4<f32>, by: u32, place: Place) -> mat4x4<f32> {
    let sign = select(1.0, -1.0, (lane_of(place) & by) != 0u);
    let near = mat4x4(across(m[0], by, place), across(m[1], by, place), across(m[2], by, place), across(m[3], by, place));
    return near + m * sign;
}
