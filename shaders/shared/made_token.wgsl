// Products of one token, whose int8 codes each workgroup makes itself, with a weight (int4 or int8, the format word): what a launch
// before would make, in the time that it would take to start. A workgroup makes 16 outputs; its teams of 32 threads take two rows
// each and wait for nobody once the codes are made. Loads of codes are 16 bytes, eight of them on the way. The importing shader has
// `params` with n, cols, group, x_group and epilogue, the bindings `weight`, `weight_scales` and `out`, `const MOST` columns, and
// fills `words` and `token_scales`. cols and groups are multiples of QUAD, or a group is the row; x_group is 32, 64, 128 or the row.
#import epilogue
#import int8_codes
#ifdef int4
#import quad_int4
#else
#import quad_int8
#endif
#import warps
#import weight_scales

const WG = 256u;
const TEAMS = WG / 32u;
const ROWS = 2u * TEAMS;

const PLANE = MOST / 16u + 8u; // every fourth word of the token's codes, and room between, so that threads next to each other share no bank

var<workgroup> words: array<u32, 4u * PLANE>; // the token's codes
var<workgroup> token_scales: array<f32, MOST / 32u>; // and their scales

fn codes_at(at: u32) -> vec4<u32> {
    return vec4(words[at], words[PLANE + at], words[2u * PLANE + at], words[3u * PLANE + at]);
}

// Vec4s of one row of the weight.
struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn fetch_row(row: u32, at: vec4<u32>) -> Quads {
    let i = row * (params.cols / QUAD) + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// Scales of two rows, of which the first is even, at four vec4s of theirs.
fn fetch_scales(row: u32, at: vec4<u32>) -> mat4x2<f32> {
    let i = first_scales(row, (params.cols + params.group - 1u) / params.group) + at * QUAD / params.group;
    return mat4x2(two_scales(i.x, row), two_scales(i.y, row), two_scales(i.z, row), two_scales(i.w, row));
}

// Scales of the token at four vec4s of a row; 0 of those that are not there.
fn fetch_token_scales(at: vec4<u32>, is_there: vec4<f32>) -> vec4<f32> {
    let g = at * QUAD / params.x_group;
    return is_there * vec4(token_scales[g.x], token_scales[g.y], token_scales[g.z], token_scales[g.w]);
}

fn dot_row(at: vec4<u32>, w: Quads, scales: vec4<f32>) -> f32 {
    let low = vec2(dot_quad(fetch_token(at.x), w.a), dot_quad(fetch_token(at.y), w.b));
    let sums = vec4(low, dot_quad(fetch_token(at.z), w.c), dot_quad(fetch_token(at.w), w.d)) >> vec4(SHIFT);
    return dot(scales, vec4<f32>(sums));
}

fn put(spot: u32, v: vec4<f32>, is_there: bool, inverse: f32) {
    if is_there {
        words[spot % 4u * PLANE + spot / 4u] = codes_of(v, inverse);
    }
}

// Codes of quads by the token's one scale.
fn put_whole(spots: vec4<u32>, v: mat4x4<f32>, is_there: vec4<bool>, inverse: f32) {
    put(spots.x, v[0], is_there.x, inverse);
    put(spots.y, v[1], is_there.y, inverse);
    put(spots.z, v[2], is_there.z, inverse);
    put(spots.w, v[3], is_there.w, inverse);
}

// A quad's codes by its group's scale, which the group's first stores.
fn put_grouped(spot: u32, v: vec4<f32>, is_there: bool, largest: f32) {
    put(spot, v, is_there, group_inverse_of(largest));
    if is_there && 4u * spot % params.x_group == 0u {
        token_scales[4u * spot / params.x_group] = group_scale_of(largest);
    }
}

// Of quads with these largest magnitudes, each next to that of the next thread.
fn put_groups(spots: vec4<u32>, v: mat4x4<f32>, is_there: vec4<bool>, tops: vec4<f32>, place: Place) {
    let largest = run_max(tops, params.x_group / 4u, place);
    put_grouped(spots.x, v[0], is_there.x, largest.x);
    put_grouped(spots.y, v[1], is_there.y, largest.y);
    put_grouped(spots.z, v[2], is_there.z, largest.z);
    put_grouped(spots.w, v[3], is_there.w, largest.w);
}

// Outputs from row `first` on, when the codes are made.
fn make_outputs(first: u32, place: Place) {
    workgroupBarrier();
    let lane = lane_of(place);
    let row = first + 2u * warp_of(place);
    let rows = min(vec2(row, row + 1u), vec2(params.n - 1u)); // beyond the end computed and not stored
    let quads = params.cols / QUAD;
    var sums = vec2(0.0);
    for (var quad = lane; quad < quads; quad += 128u) {
        let spots = quad + vec4(0u, 32u, 64u, 96u);
        let at = min(spots, vec4(quads - 1u));
        let w0 = fetch_row(rows.x, at);
        let w1 = fetch_row(rows.y, at);
        let scales = transpose(fetch_scales(rows.x, at));
        let of_token = fetch_token_scales(at, select(vec4(0.0), vec4(1.0), spots < vec4(quads)));
        sums += vec2(dot_row(at, w0, scales[0] * of_token), dot_row(at, w1, scales[1] * of_token));
    }
    let both = vec2(warp_sum(sums.x, place), warp_sum(sums.y, place));
    if lane < 2u && row + lane < params.n {
        store(row + lane, select(both.x, both.y, lane == 1u));
    }
}
