// What products do with a workgroup's 32 outputs of each token that make codes of them (grouped_rows.wgsl, group_codes.wgsl).
#import group_codes
#import grouped_rows

const SLOTS = 4u * WARPS; // slices of four rows each

var<workgroup> finished: array<f32, SLOTS * MOST_TOKENS>;

fn take(token: u32, own: f32, place: Place) {
    if lane_of(place) % 8u == 0u {
        finished[SLOTS * token + 4u * warp_of(place) + lane_of(place) / 8u] = own;
    }
}

// The token of which this thread has outputs, if it has any. Of one token nothing is left to compute, which is worth .2 us of 8.
fn token_of(place: Place) -> u32 {
    if params.tokens == 1u {
        return 0u;
    }
    return place.thread / 8u;
}

// And which four of the workgroup's 32 they are.
fn quad_of(place: Place) -> u32 {
    return place.thread - 8u * token_of(place);
}

// Does this thread have outputs? Eight do of each token.
fn has_outputs(place: Place) -> bool {
    return place.thread < 8u * params.tokens;
}

// Outputs 4 i.. of the workgroup in its i-th thread of a token: that a thousand threads add up the same took a microsecond. All of a workgroup
// call it together.
fn gathered(first: u32, place: Place) -> vec4<f32> {
    multiply(first, place);
    workgroupBarrier();
    var sum = vec4<f32>();
    if has_outputs(place) {
        for (var slice = 0u; slice < SLICES; slice++) {
            let at = SLOTS * token_of(place) + 4u * (quad_of(place) * SLICES + slice);
            sum += vec4(finished[at], finished[at + 1u], finished[at + 2u], finished[at + 3u]);
        }
    }
    return sum;
}

// Codes of the workgroup's outputs, which begin at row `first`: `v`, and of what they stand for the sum of squares of this thread's.
fn put_outputs(first: u32, v: vec4<f32>, squares: f32, place: Place) {
    let groups = params.n / ROWS;
    put_codes(token_of(place) * groups + first / ROWS, params.tokens * groups, v, squares, has_outputs(place), place);
}
