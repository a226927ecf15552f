// Draws a token: softmax(logits / temperature), the top_k most likely, of these the fewest that hold top_p of the
// mass (Holtzman et al. 2019, arXiv:1904.09751), then the inverse of the cumulative distribution in index order.
// One workgroup a row. Both cuts are keys (shared/order.wgsl) found by bisection, a bit a pass over the logits.
#import hash
#import index
#import order
#import reduce

struct Params {
    rows: u32,
    vocab: u32,
    inv_temperature: f32,
    top_k: u32, // 0: all
    top_p: f32, // 1: all
}

const WG = 256u;

@group(0) @binding(0) var<storage, read> logits: array<f32>; // [rows, vocab]
@group(0) @binding(1) var<storage, read_write> rng: array<u32>; // [rows, 2] seed, counter
@group(0) @binding(2) var<storage, read_write> out: array<u32>; // [rows]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> masses: array<f32, WG>;
var<private> row: u32;

fn logit_at(i: u32) -> f32 {
    return logits[row * params.vocab + i];
}

// Unnormalized probability, 0 below the cut.
fn mass(i: u32, top: f32, cut: u32) -> f32 {
    let logit = logit_at(i);
    return select(0.0, exp((logit - top) * params.inv_temperature), order_key(logit) >= cut);
}

fn count_from(cut: u32, place: Place) -> f32 {
    var count = 0.0;
    for (var i = place.thread; i < params.vocab; i += WG) {
        count += select(0.0, 1.0, order_key(logit_at(i)) >= cut);
    }
    return workgroup_sum(count, place);
}

fn mass_from(cut: u32, top: f32, place: Place) -> f32 {
    var sum = 0.0;
    for (var i = place.thread; i < params.vocab; i += WG) {
        sum += mass(i, top, cut);
    }
    return workgroup_sum(sum, place);
}

// Thread 0: walks to the piece, then to the token, where the running mass passes a random part of the whole;
// where rounding keeps it from passing, to the last one that has any mass.
fn draw(top: f32, cut: u32, piece: u32) -> u32 {
    var all = 0.0;
    for (var t = 0u; t < WG; t += 1u) {
        all += masses[t];
    }
    let uniform_24 = f32(hash(rng[2u * row + 1u] + hash(rng[2u * row])) >> 8u) / 16777216.0;
    let aim = uniform_24 * all;
    var before = 0.0;
    var found = 0u;
    var sum = 0.0;
    for (var t = 0u; t < WG && sum <= aim; t += 1u) {
        if masses[t] > 0.0 {
            found = t;
            before = sum;
            sum += masses[t];
        }
    }
    let end = min((found + 1u) * piece, params.vocab);
    var token = 0u;
    sum = before;
    for (var i = found * piece; i < end && sum <= aim; i += 1u) {
        let m = mass(i, top, cut);
        if m > 0.0 {
            token = i;
            sum += m;
        }
    }
    return token;
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let index = linear_workgroup(workgroup, grid);
    if index >= params.rows {
        return;
    }
    row = index;
    let thread = place.thread;
    var top = -3.4e38;
    for (var i = thread; i < params.vocab; i += WG) {
        top = max(top, logit_at(i));
    }
    top = workgroup_max(top, place);
    var cut = 0u;
    if params.top_k > 0u {
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            let higher = cut | bit;
            cut = select(cut, higher, count_from(higher, place) >= f32(params.top_k));
        }
    }
    if params.top_p < 1.0 {
        let floor_key = cut;
        let enough = params.top_p * mass_from(floor_key, top, place);
        cut = 0u;
        for (var bit = 0x80000000u; bit > 0u; bit >>= 1u) {
            let higher = cut | bit;
            cut = select(cut, higher, mass_from(max(higher, floor_key), top, place) >= enough);
        }
        cut = max(cut, floor_key);
    }
    // Pieces of consecutive tokens, one a thread.
    let piece = (params.vocab + WG - 1u) / WG;
    var sum = 0.0;
    for (var i = thread * piece; i < min((thread + 1u) * piece, params.vocab); i += 1u) {
        sum += mass(i, top, cut);
    }
    masses[thread] = sum;
    workgroupBarrier();
    if thread == 0u {
        out[row] = draw(top, cut, piece);
        rng[2u * row + 1u] += 1u;
    }
}
