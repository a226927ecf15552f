// Are subgroups what their built-in values and functions say? Each thread compares one with another and with
// workgroup memory, and sets a bit of `wrong` for what contradicts. Nothing is assumed of how threads map to lanes, of
// the size, or of full subgroups (uVkCompute #43, gpuweb/cts #4035, MoltenVK #1553, llama.cpp #10809).
// The format word is the number of threads: 25 and 33 leave subgroups in part empty.
#import index
#import place

struct Params {
    workgroups: u32,
    least: u32, // smallest subgroup size the adapter reports
    most: u32, // largest
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
#ifdef wg64
const WG = 64u;
#endif
#ifdef wg256
const WG = 256u;
#endif
const LANES = 128u; // of the largest subgroup there is
const SHORT = 65536u; // num_subgroups leaves out the last subgroup

@group(0) @binding(0) var<storage, read> x: array<u32>; // [workgroups, WG]
@group(0) @binding(1) var<storage, read_write> wrong: array<u32>; // [workgroups, WG] bits: see main
@group(0) @binding(2) var<storage, read_write> totals: array<u32>; // [workgroups] sums of x, by way of subgroups
@group(0) @binding(3) var<storage, read_write> sizes: array<u32>; // [workgroups, WG] subgroup_size, and SHORT
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> lanes: array<vec2<u32>, WG>; // subgroup and lane of each thread
var<workgroup> total: atomic<u32>;
var<workgroup> leaders: atomic<u32>;
var<workgroup> members: atomic<u32>;

fn has(mask: vec4<u32>, lane: u32) -> bool {
    return lane < LANES && ((mask[lane / 32u] >> (lane % 32u)) & 1u) == 1u;
}

// Lanes of the mask below `lane`.
fn below(mask: vec4<u32>, lane: u32) -> u32 {
    var n = 0u;
    for (var i = 0u; i < min(lane, LANES); i++) {
        n += select(0u, 1u, has(mask, i));
    }
    return n;
}

// The next lane of the mask after `lane`, around the end; `lane` itself when there is no other.
fn next(mask: vec4<u32>, lane: u32) -> u32 {
    for (var i = 1u; i < LANES; i++) {
        if has(mask, (lane + i) % LANES) {
            return (lane + i) % LANES;
        }
    }
    return lane;
}

fn flag(bit: u32, fails: bool) -> u32 {
    return select(0u, 1u << bit, fails);
}

@compute @workgroup_size(WG)
fn main(
    place: Place,
    @builtin(subgroup_size) size: u32,
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
) {
    let item = linear_workgroup(workgroup, grid);
    if item >= params.workgroups {
        return;
    }
    let lane = place.lane;
    let value = x[item * WG + place.thread];
    let odd = (value & 1u) == 1u;
    lanes[place.thread] = vec2(place.subgroup, lane);
    if place.thread == 0u {
        atomicStore(&total, 0u);
        atomicStore(&leaders, 0u);
        atomicStore(&members, 0u);
    }
    workgroupBarrier();

    // All subgroup functions in uniform control flow, where WGSL defines them.
    let here = subgroupBallot(true);
    let count = subgroupAdd(1u);
    let before = subgroupExclusiveAdd(1u);
    let upto = subgroupInclusiveAdd(1u);
    let lowest = subgroupBroadcastFirst(lane);
    let zero = subgroupBroadcast(lane, 0u);
    let after = next(here, lane);
    let neighbour = subgroupShuffle(place.thread, after);
    let swapped = subgroupShuffleXor(lane, 1u);
    let above = subgroupShuffleUp(lane, 1u);
    let under = subgroupShuffleDown(lane, 1u);
    let one_size = subgroupMin(size) == subgroupMax(size);
    let one_id = subgroupMin(place.subgroup) == subgroupMax(place.subgroup);
    let odds = subgroupBallot(odd);
    let odd_count = subgroupAdd(select(0u, 1u, odd));
    let any_odd = subgroupAny(odd);
    let all_odd = subgroupAll(odd);
    let largest = subgroupMax(value);
    let has_largest = subgroupAny(value == largest);
    let sum = subgroupAdd(value);
    let leads = below(here, lane) == 0u;
    if leads {
        atomicAdd(&total, sum);
        atomicAdd(&leaders, 1u);
        atomicAdd(&members, count);
    }
    workgroupBarrier();

    var bad = flag(0u, countOneBits(size) != 1u || size < params.least || size > params.most);
    bad |= flag(1u, lane >= size || !has(here, lane) || below(here, size) != below(here, LANES));
    bad |= flag(2u, count != below(here, LANES));
    bad |= flag(3u, before != below(here, lane) || upto != before + 1u);
    bad |= flag(4u, below(here, lowest) != 0u || !has(here, lowest) || (has(here, 0u) && zero != 0u));
    bad |= flag(5u, neighbour >= WG || any(lanes[min(neighbour, WG - 1u)] != vec2(place.subgroup, after)));
    bad |= flag(6u, has(here, lane ^ 1u) && swapped != (lane ^ 1u));
    bad |= flag(7u, (lane > 0u && has(here, lane - 1u) && above != lane - 1u) || (has(here, lane + 1u) && under != lane + 1u));
    // Mesa 22.3's software driver does not count a last subgroup that is not full; no kernel here has one. That is told.
    let counted = atomicLoad(&leaders);
    let short = place.subgroups + 1u == counted && WG % size != 0u;
    bad |= flag(8u, !one_size || !one_id || place.subgroup >= counted);
    bad |= flag(9u, (counted != place.subgroups && !short) || atomicLoad(&members) != WG);
    bad |= flag(10u, has(odds, lane) != odd || odd_count != below(odds, LANES) || any((odds & ~here) != vec4(0u)));
    bad |= flag(11u, any_odd != (odd_count > 0u) || all_odd != (odd_count == count));
    bad |= flag(12u, value > largest || !has_largest);
    wrong[item * WG + place.thread] = bad;
    sizes[item * WG + place.thread] = size | select(0u, SHORT, short);
    if place.thread == 0u {
        totals[item] = atomicLoad(&total);
    }
}
