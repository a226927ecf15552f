// out[r] = KL(p || q) of softmax(p[r]) and softmax(q[r]), nats. One workgroup a row.
//
// Of d = ln q - ln p it adds up p (e^d - 1 - d), whose e^d - 1 are 0 in all: each is 0 or more, so nothing cancels between them, and
// what a rounded sum of exponentials shifts all d by counts only as its square.
#import index
#import reduce

struct Params {
    rows: u32,
    vocab: u32,
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> p: array<f32>; // [rows, vocab] logits
@group(0) @binding(1) var<storage, read> q: array<f32>; // [rows, vocab] logits
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

// p (e^d - 1 - d), of ln p and ln q.
fn term(log_p: f32, log_q: f32) -> f32 {
    let d = log_q - log_p;
    let prob = exp(log_p);
    // Near 0 what is left of e^d - 1 - d are rounding errors, so a series serves there: to d^8 / 8!.
    let tail = 0.008333334 + d * (0.0013888889 + d * (0.0001984127 + d * 0.0000248016));
    let near = prob * d * d * (0.5 + d * (0.16666667 + d * (0.041666668 + d * tail)));
    // As q - p - p d, since e^d may be beyond all numbers; where p is 0, q is all.
    let far = exp(log_q) - prob - select(prob * d, 0.0, prob == 0.0);
    return select(far, near, abs(d) < 0.5);
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let row = linear_workgroup(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * params.vocab;
    var top = vec2(-3.4e38);
    for (var i = start + place.thread; i < start + params.vocab; i += WG) {
        top = max(top, vec2(p[i], q[i]));
    }
    top = vec2(workgroup_max(top.x, place), workgroup_max(top.y, place));
    var sum = vec2(0.0);
    for (var i = start + place.thread; i < start + params.vocab; i += WG) {
        sum += exp(vec2(p[i], q[i]) - top);
    }
    let log_sum = log(vec2(workgroup_sum(sum.x, place), workgroup_sum(sum.y, place)));
    var divergence = 0.0;
    for (var i = start + place.thread; i < start + params.vocab; i += WG) {
        let logs = (vec2(p[i], q[i]) - top) - log_sum;
        divergence += term(logs.x, logs.y);
    }
    divergence = workgroup_sum(divergence, place);
    if place.thread == 0u {
        out[row] = divergence;
    }
}
