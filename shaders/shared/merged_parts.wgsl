// The results of attention_split.wgsl's workgroups put together: sum over splits of e^(peak - top) parts, divided by the same sum of their
// sums, top the largest peak. The importing shader has the bindings `parts`, `stats` and `cursor`, and `params` with sequences, tokens,
// heads, head_dim, max and splits.
#import splits
#import reduce

const WG = 256u;
const LOWEST = -1e30; // below every score

var<workgroup> weights: array<f32, WG>;
var<workgroup> sums: array<vec4<f32>, WG>;

// Columns 4 i.. of row `row` (token, query head) in thread i, of the first head_dim / 4. All of a workgroup call it together.
fn merged(row: u32, place: Place) -> vec4<f32> {
    let sequence = row / (params.tokens * params.heads);
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
    }
    return sum / total;
}
