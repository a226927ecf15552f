// Softmax of a tile of scores in workgroup memory, a step of keys at a time (Milakov & Gimelshein 2018,
// arXiv:1805.02867). The importing shader defines `const ROWS` and `const SIDE`, a quarter of the keys of a step,
// and puts barriers between putting, softening and getting.

const PITCH = SIDE + 1u; // padded against bank conflicts
const LOWEST = -1e30; // below every score

var<workgroup> scores: array<vec4<f32>, ROWS * PITCH>; // scores, then their exponentials: [row, key / 4]
var<workgroup> factors: array<f32, ROWS>; // of what was summed before; at the end one over the sum

fn put_scores(local: u32, key: u32, sums: mat4x4<f32>) {
    let at = local * PITCH + key;
    scores[at] = sums[0];
    scores[at + PITCH] = sums[1];
    scores[at + 2u * PITCH] = sums[2];
    scores[at + 3u * PITCH] = sums[3];
}

fn get_scores(local: u32, key: u32) -> mat4x4<f32> {
    let at = local * PITCH + key;
    return mat4x4(scores[at], scores[at + PITCH], scores[at + 2u * PITCH], scores[at + 3u * PITCH]);
}

fn get_factors(local: u32) -> vec4<f32> {
    return vec4(factors[local], factors[local + 1u], factors[local + 2u], factors[local + 3u]);
}

// Of scores less the largest. A minimum would make 0 of a NaN, and of its weight 1.
fn weights_of(differences: vec4<f32>) -> vec4<f32> {
    return exp(select(differences, vec4(0.0), differences > vec4(0.0)));
}

// Turns one row's scores into exponentials against the new maximum; keys beyond `limit` become zero.
// `peak` and `total` are the row's maximum and sum so far.
fn soften(row: u32, key0: u32, limit: u32, peak: ptr<function, f32>, total: ptr<function, f32>) {
    var top = vec4(LOWEST);
    for (var j = 0u; j < SIDE; j++) {
        let allowed = vec4(0u, 1u, 2u, 3u) + (key0 + 4u * j) <= vec4(limit);
        top = max(top, select(vec4(LOWEST), scores[row * PITCH + j], allowed));
    }
    let new_peak = max(max(max(top.x, top.y), max(top.z, top.w)), *peak);
    var sum = vec4(0.0);
    for (var j = 0u; j < SIDE; j++) {
        let allowed = vec4(0u, 1u, 2u, 3u) + (key0 + 4u * j) <= vec4(limit);
        let value = select(vec4(0.0), weights_of(scores[row * PITCH + j] - new_peak), allowed);
        scores[row * PITCH + j] = value;
        sum += value;
    }
    let factor = exp(*peak - new_peak);
    factors[row] = factor;
    *total = *total * factor + (sum.x + sum.y + sum.z + sum.w);
    *peak = new_peak;
}
