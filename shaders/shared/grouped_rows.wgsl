// Products of one token, int8 codes with a scale for each 32 columns, with a weight (int4 or int8, the format word), where the kernel
// before has made the codes: its workgroup had 32 outputs, whose scale needs no other's. A norm's factor is one for many columns, so
// it comes to the scales, or to what the product gives, from sums of squares that came with them. A workgroup makes 32 outputs, its
// teams of 32 threads four each; loads of codes are 16 bytes, eight of the weight on the way. The importing shader has `params` with
// n, k, group, norm_group and eps, and the bindings `codes`, `scales`, `weight` and `weight_scales`. k and norm_group are multiples
// of 32, groups of a QUAD, or a group is the row.
#import dot
#import warps

const WG = 256u;
const TEAMS = WG / 32u;
const ROWS = 4u * TEAMS;
const MOST_NORMS = 64u; // of a token with several

var<workgroup> factors: array<f32, MOST_NORMS>; // of a token with several norms

#ifdef int4
#import pack

const QUAD = 32u;

struct Token {
    first: vec4<u32>,
    second: vec4<u32>,
}

fn fetch_token(at: u32) -> Token {
    return Token(codes[2u * at], codes[2u * at + 1u]);
}

// 16 times the products of the 8 codes of a word.
fn dot_word(low: u32, high: u32, word: u32) -> i32 {
    return dot_codes(low, low4_times_16(word)) + dot_codes(high, high4_times_16(word));
}

fn dot_quad(x: Token, w: vec4<u32>) -> i32 {
    let first = dot_word(x.first.x, x.first.y, w.x) + dot_word(x.first.z, x.first.w, w.y);
    return (first + dot_word(x.second.x, x.second.y, w.z) + dot_word(x.second.z, x.second.w, w.w)) >> 4u;
}
#else
const QUAD = 16u;
alias Token = vec4<u32>;

fn fetch_token(at: u32) -> Token {
    return codes[at];
}

fn dot_quad(x: Token, w: vec4<u32>) -> i32 {
    return dot_codes(x.x, w.x) + dot_codes(x.y, w.y) + (dot_codes(x.z, w.z) + dot_codes(x.w, w.w));
}
#endif

// A vec4 of each of four rows.
struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn fetch_rows(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows * (params.k / QUAD) + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// Their scales, times the token's.
fn fetch_scales(rows: vec4<u32>, at: u32) -> vec4<f32> {
    let i = rows * ((params.k + params.group - 1u) / params.group) + at * QUAD / params.group;
    let factor = token_scale(at * QUAD / 32u);
    return vec4(weight_scales[i.x], weight_scales[i.y], weight_scales[i.z], weight_scales[i.w]) * factor;
}

fn dot_rows(x: Token, w: Quads) -> vec4<f32> {
    return vec4<f32>(vec4(dot_quad(x, w.a), dot_quad(x, w.b), dot_quad(x, w.c), dot_quad(x, w.d)));
}

fn has_norms() -> bool {
    return params.norm_group > 0u && params.norm_group < params.k;
}

fn token_scale(group: u32) -> f32 {
    if has_norms() {
        return scales[group] * factors[32u * group / params.norm_group];
    }
    return scales[group];
}

// This lane's part of the sum of squares of `count` groups from `first` on.
fn squares(first: u32, count: u32, place: Place) -> f32 {
    var sum = 0.0;
    for (var g = lane_of(place); g < count; g += 32u) {
        sum += scales[params.k / 32u + first + g];
    }
    return sum;
}

fn factor_of(sum: f32) -> f32 {
    return inverseSqrt(sum / f32(params.norm_group) + params.eps);
}

// The factors of several norms, a team a norm.
fn find_factors(place: Place) {
    let groups = params.norm_group / 32u;
    let norms = params.k / params.norm_group;
    for (var base = 0u; base < norms; base += TEAMS) {
        let norm = base + warp_of(place);
        let sum = warp_sum(squares(min(norm, norms - 1u) * groups, groups, place), place);
        if lane_of(place) == 0u && norm < norms {
            factors[norm] = factor_of(sum);
        }
    }
    workgroupBarrier();
}

// Outputs of four rows from `row` on; of those beyond the end the last again.
fn outputs_of(row: u32, place: Place) -> vec4<f32> {
    var own = 0.0;
    if params.norm_group == params.k {
        own = squares(0u, params.k / 32u, place);
    }
    if has_norms() {
        find_factors(place);
    }
    let rows = min(row + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
    let quads = params.k / QUAD;
    var sums = vec4<f32>();
    for (var at = lane_of(place); at < quads; at += 64u) {
        let next = min(at + 32u, quads - 1u);
        let w0 = fetch_rows(rows, at);
        let w1 = fetch_rows(rows, next);
        let x0 = fetch_token(at);
        let x1 = fetch_token(next);
        let y1 = dot_rows(x1, w1) * fetch_scales(rows, next);
        sums += dot_rows(x0, w0) * fetch_scales(rows, at) + select(vec4<f32>(), y1, at + 32u < quads);
    }
    let all = warp_sums(sums, place);
    if params.norm_group == params.k {
        return all * factor_of(warp_sum(own, place));
    }
    return all;
}
