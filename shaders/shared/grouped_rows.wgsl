// Products of few tokens, int8 codes with a scale for each 32 columns, with a weight (int4 or int8, the format word), where the kernel
// before has made the codes: its workgroup had 32 outputs, whose scale needs no other's. A norm's factor is one for many columns, so
// it comes to the scales, or to what the product gives, from sums of squares that came with them. A workgroup makes 32 outputs, four
// for each `const SLICES` warps: of few long rows a core would otherwise have too few loads on the way. Loads of codes are 16 bytes, four
// of the weight for each of `const STEPS` on the way, one or two: one needs fewer registers, so that more workgroups share a core. (Several
// tokens take one step at a time, of which all multiply what it loads of the weight.) Then
// the codes of the token wait for all that a step loads, by bits that are 0 but for a negative scale: NVIDIA's compiler would move loads down
// to their use, and a step would wait for memory three times, for some of the rows, for the last one and for scales. The
// importing shader has `params` with tokens, n, k, group, norm_group and eps, the bindings `codes`, `scales`, `weight` and `weight_scales`, and
// `take`, which gets four rows' products with a token. k and norm_group are multiples of 32, groups of a QUAD, or a group is the row.
#ifdef int4 int4_several
#import quad_int4
#else
#import quad_int8
#endif
#import quad_rows
#import warps
#import weight_scales

const ROWS = 32u;
const WARPS = ROWS / 4u * SLICES;
const WG = 32u * WARPS;
const MOST_NORMS = 64u; // of a token
const MOST_TOKENS = 8u;

var<workgroup> factors: array<f32, MOST_NORMS * MOST_TOKENS>;

fn codes_at(at: u32) -> vec4<u32> {
    return codes[at];
}

// Has a token one norm, whose factor is one for all outputs?
fn has_norm() -> bool {
    return params.norm_group == params.k;
}

// Do threads sum its squares up as they multiply? Slices do not see all of them.
fn sums_squares() -> bool {
    return has_norm() && SLICES == 1u && params.tokens == 1u;
}

// Have scales factors of their own?
fn has_factors() -> bool {
    return params.norm_group > 0u && !has_norm();
}

// A token's scale of its vec4 `at` of as many codes as one of the weight has, which are counted through all tokens, and its share of a sum of squares.
fn fetch_token_scale(at: u32) -> vec2<f32> {
    let group = at * QUAD / 32u;
    if sums_squares() {
        return vec2(scales[group], f32(QUAD) / 32.0 * scales[params.k / 32u + group]);
    }
    if has_factors() {
        return vec2(scales[group] * factors[32u * group / max(params.norm_group, 1u)], 0.0);
    }
    return vec2(scales[group], 0.0);
}

fn factor_of(sum: f32) -> f32 {
    return inverseSqrt(sum / f32(max(params.norm_group, 1u)) + params.eps);
}

// The factors of all tokens' norms, a warp a norm.
fn find_factors(place: Place) {
    let groups = params.norm_group / 32u;
    let norms = params.tokens * (params.k / max(params.norm_group, 1u)); // no division by zero where parameters are constants
    for (var base = 0u; base < norms; base += WARPS) {
        let norm = base + warp_of(place);
        let first = params.tokens * (params.k / 32u) + min(norm, norms - 1u) * groups;
        var sum = 0.0;
        for (var g = lane_of(place); g < groups; g += 32u) {
            sum += scales[first + g];
        }
        sum = warp_sum(sum, place);
        if lane_of(place) == 0u && norm < norms {
            factors[norm] = factor_of(sum);
        }
    }
    workgroupBarrier();
}

// The factor of a token's only norm, which `find_factors` has found.
fn norm_factor(token: u32) -> f32 {
    if has_norm() {
        return factors[token];
    }
    return 1.0;
}

// The scales of a vec4 of each row, whose first ones are at `row_scales`.
fn group_scales(row_scales: u32, at: u32) -> vec4<f32> {
    return four_scales(row_scales + at * QUAD / params.group);
}

// 0 for what is not negative.
fn sign_bit(v: f32) -> u32 {
    return bitcast<u32>(v) >> 31u;
}

fn products(x: Token, w: Quads) -> vec4<f32> {
    return vec4<f32>(dot_rows(x, w) >> vec4(SHIFT));
}

// Gives `take` each token's products with the warp's slice of four rows of the workgroup's, which begin at `first`: threads 8 i and the next seven
// have row i's; of rows beyond the end the last again. All of a workgroup call it together.
fn multiply(first: u32, place: Place) {
    if has_factors() {
        find_factors(place);
    }
    var rows = first + 4u * (warp_of(place) / SLICES) + vec4(0u, 1u, 2u, 3u);
    if params.n % ROWS > 0u {
        rows = min(rows, vec4(params.n - 1u));
    }
    let row_scales = first_scales(rows.x, (params.k + params.group - 1u) / params.group);
    rows *= params.k / QUAD;
    let at = 32u * (warp_of(place) % SLICES) + lane_of(place);
    if params.tokens == 1u {
        multiply_one(rows, row_scales, at, place);
    } else {
        multiply_several(rows, row_scales, at, place);
    }
}

fn multiply_one(rows: vec4<u32>, row_scales: u32, begin: u32, place: Place) {
    let quads = params.k / QUAD;
    let step = 32u * SLICES;
    var sums = vec4<f32>();
    var squares = 0.0;
    for (var at = begin; at < quads; at += STEPS * step) {
        let w0 = fetch_rows(rows, at);
        let x0 = fetch_token(at);
        let s0 = fetch_token_scale(at);
        let f0 = group_scales(row_scales, at);
        if STEPS == 1u {
            let waits = any_bits(w0) | token_bits(x0) | bitcast<u32>(s0.y) | bitcast<u32>(f0.x);
            sums += products(changed(x0, waits & sign_bit(s0.x)), w0) * (f0 * s0.x);
            squares += s0.y;
            continue;
        }
        let next = min(at + step, quads - 1u);
        let is_there = select(0.0, 1.0, at + step < quads);
        let w1 = fetch_rows(rows, next);
        let x1 = fetch_token(next);
        let s1 = is_there * fetch_token_scale(next);
        let f1 = group_scales(row_scales, next);
        let y0 = products(x0, w0) * (f0 * s0.x);
        sums += y0 + products(x1, w1) * (f1 * s1.x);
        squares += s0.y + s1.y;
    }
    let own = sum_of_four(sums, place);
    if sums_squares() {
        take(0u, own * factor_of(warp_sum(squares, place)), place);
        return;
    }
    if has_norm() {
        find_factors(place);
    }
    take(0u, own * norm_factor(0u), place);
}

fn multiply_several(rows: vec4<u32>, row_scales: u32, begin: u32, place: Place) {
    let quads = params.k / QUAD;
    var sums: array<vec4<f32>, MOST_TOKENS>;
    for (var at = begin; at < quads; at += 32u * SLICES) {
        let w = fetch_rows(rows, at);
        let f = group_scales(row_scales, at);
        for (var token = 0u; token < params.tokens; token++) {
            let of_token = token * quads + at;
            sums[token] += products(fetch_token(of_token), w) * (f * fetch_token_scale(of_token).x);
        }
    }
    if has_norm() { // nothing waits for them
        find_factors(place);
    }
    for (var token = 0u; token < params.tokens; token++) {
        take(token, sum_of_four(sums[token], place) * norm_factor(token), place);
    }
}
