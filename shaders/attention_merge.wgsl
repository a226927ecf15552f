// The results of attention_split.wgsl's workgroups put together: out = sum over splits of e^(peak - top) parts, divided by
// the same sum of their sums, top the largest peak. One workgroup a row (token, query head).
#import index
#import splits
#import reduce

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    head_dim: u32, // a multiple of 4
    max: u32, // rows of a sequence's cache
    splits: u32, // at most WG
}

const WG = 256u;
const LOWEST = -1e30; // below every score

@group(0) @binding(0) var<storage, read> parts: array<vec4<f32>>; // [sequences * tokens * heads * splits, head_dim]
@group(0) @binding(1) var<storage, read> stats: array<vec2<f32>>; // [sequences * tokens * heads * splits, 2] peak and sum
@group(0) @binding(2) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>; // [sequences * tokens, heads * head_dim]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    let row = linear_workgroup(workgroup, grid);
    let sequence = row / (params.tokens * params.heads);
    if sequence >= params.sequences {
        return;
    }
    let keys = min(cursor[sequence] + params.tokens, params.max);
    let share = share_of(keys, params.splits);
    let splits = (keys + share - 1u) / share; // that have keys
    let quads = params.head_dim / 4u;
    let teams = WG / quads;
    let team = place.thread / quads;
    let column = place.thread % quads;
    // Under way before the weights are known.
    let first = row * params.splits;
    let spots = team + teams * vec4(0u, 1u, 2u, 3u);
    let at = (first + min(spots, vec4(splits - 1u))) * quads + column;
    let a = parts[at.x];
    let b = parts[at.y];
    let c = parts[at.z];
    let d = parts[at.w];
    var stat = vec2(LOWEST, 0.0);
    if place.thread < splits {
        stat = stats[first + place.thread];
    }
    let weight = exp(stat.x - workgroup_max(stat.x, place));
    weights[place.thread] = weight;
    let total = workgroup_sum(weight * stat.y, place);
    let i = min(spots, vec4(WG - 1u)); // weights of splits without keys are 0
    var sum = weights[i.x] * a + weights[i.y] * b + weights[i.z] * c + weights[i.w] * d;
    for (var s = team + 4u * teams; s < splits; s += teams) {
        sum += weights[s] * parts[(first + s) * quads + column];
    }
    sums[place.thread] = sum;
    workgroupBarrier();
    if place.thread < quads {
        for (var t = 1u; t < teams; t++) {
            sum += sums[t * quads + column];
        }
        out[row * quads + column] = sum / total;
    }
}
