// Statistics of channels, added to those of launches before: smallest and largest value, sums of the first four powers
// (compensated), and how many magnitudes fall into each bin, an eighth of an octave wide, for percentiles.
// x[o, c, i] with `inner` consecutive elements of a channel; a channel's samples are all o and i.
// One workgroup: 32 channels, 8 threads each. Every count has one writer, so results do not depend on order.
#import compensated
#import index

struct Params {
    outer: u32,
    channels: u32,
    inner: u32,
    stride: u32, // elements from one o to the next
    offset: u32, // of the first element
    zero: u32, // always 0, which no compiler knows
}

const CHANNELS = 32u;
const LANES = 8u;
const WG = CHANNELS * LANES;
const BLOCK = 32u; // samples a thread adds up before it adds them to its sums: rounding stays small
const BINS = 512u;
const FIRST = 696u; // exponent and three bits of the fraction of 2^-40, where bin 0 ends

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> range: array<f32>; // [2, channels] smallest, largest
@group(0) @binding(2) var<storage, read_write> sums: array<f32>; // [8, channels] totals of powers 1 to 4, what they lost
@group(0) @binding(3) var<storage, read_write> counts: array<u32>; // [ceil(channels / 32), BINS]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> ranges: array<vec2<f32>, WG>;
var<workgroup> powers: array<vec4<f32>, WG>;
var<workgroup> bins: array<atomic<u32>, BINS>;

fn bin_of(x: f32) -> u32 {
    let key = (bitcast<u32>(x) & 0x7fffffffu) >> 20u;
    return min(max(key, FIRST) - FIRST, BINS - 1u);
}

fn sample(channel: u32, s: u32) -> f32 {
    let o = s / params.inner;
    let i = s % params.inner;
    return x[params.offset + o * params.stride + channel * params.inner + i];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let item = linear_workgroup(workgroup, grid);
    let channel = item * CHANNELS + thread % CHANNELS;
    for (var b = thread; b < BINS; b += WG) {
        atomicStore(&bins[b], 0u);
    }
    workgroupBarrier();
    if channel < params.channels {
        let samples = params.outer * params.inner;
        var seen = vec2(3.4e38, -3.4e38);
        var sum = vec4(0.0);
        for (var first = thread / CHANNELS; first < samples; first += LANES * BLOCK) {
            var part = vec4(0.0);
            for (var s = first; s < min(first + LANES * BLOCK, samples); s += LANES) {
                let v = sample(channel, s);
                seen = vec2(min(seen.x, v), max(seen.y, v));
                part += vec4(v, v * v, v * v * v, (v * v) * (v * v));
                atomicAdd(&bins[bin_of(v)], 1u);
            }
            sum += part;
        }
        ranges[thread] = seen;
        powers[thread] = sum;
    }
    workgroupBarrier();
    if thread < CHANNELS && channel < params.channels {
        var seen = ranges[thread];
        var sum = powers[thread];
        for (var lane = 1u; lane < LANES; lane++) {
            let other = ranges[thread + lane * CHANNELS];
            seen = vec2(min(seen.x, other.x), max(seen.y, other.y));
            sum += powers[thread + lane * CHANNELS];
        }
        range[channel] = min(range[channel], seen.x);
        range[channel + params.channels] = max(range[channel + params.channels], seen.y);
        for (var p = 0u; p < 4u; p++) {
            let at = channel + p * params.channels;
            let added = two_sum(sums[at], sum[p], params.zero);
            sums[at] = added.x;
            sums[at + 4u * params.channels] += added.y;
        }
    }
    if item * CHANNELS < params.channels {
        for (var b = thread; b < BINS; b += WG) {
            counts[item * BINS + b] += atomicLoad(&bins[b]);
        }
    }
}
