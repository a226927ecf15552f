// Products of the norm of one token's stream with a weight: as rms_norm_quantize and shared/quads4.wgsl, in one launch. Each workgroup
// makes the codes of the norm itself, and then outputs of many rows, so that there are few workgroups: teams of 32 threads take
// two rows at a time, and wait for nobody after the norm. The importing shader is a product of shared/quads4.wgsl; of its
// bindings `codes` is the stream, `scales` the norm's weight, and `x_group` has the bits of its eps.
#import epilogue
#import index
#import int8_codes
#import warps

const WG = 256u;
const TEAMS = WG / 32u;
const ROWS = 2u * TEAMS; // at a time
const MOST = 8192u; // columns

var<workgroup> found: array<vec2<f32>, TEAMS>; // of each team: sum of squares, largest of stream times weight
var<workgroup> made: array<vec4<u32>, MOST / 16u>; // the token's codes

// Four quads of the stream, and those times the norm's weight.
struct Four {
    x: mat4x4<f32>,
    v: mat4x4<f32>,
}

// Quads of the row; beyond its end the last again.
fn fetch_four(spots: vec4<u32>) -> Four {
    let at = min(spots, vec4(params.k / 4u - 1u));
    let low = mat2x4(bitcast<vec4<f32>>(codes[at.x]), bitcast<vec4<f32>>(codes[at.y]));
    let high = mat2x4(bitcast<vec4<f32>>(codes[at.z]), bitcast<vec4<f32>>(codes[at.w]));
    let w = mat4x4(scales[at.x], scales[at.y], scales[at.z], scales[at.w]);
    let v = mat4x4(low[0] * w[0], low[1] * w[1], high[0] * w[2], high[1] * w[3]);
    return Four(mat4x4(low[0], low[1], high[0], high[1]), v);
}

fn top(v: vec4<f32>) -> f32 {
    let pair = max(abs(v.xy), abs(v.zw));
    return max(pair.x, pair.y);
}

// Sum of squares, and largest product with the weight, of quads that are there.
fn seen(four: Four, spots: vec4<u32>) -> vec2<f32> {
    let x = four.x;
    let v = four.v;
    let is_there = select(vec4(0.0), vec4(1.0), spots < vec4(params.k / 4u));
    let squares = vec4(dot(x[0], x[0]), dot(x[1], x[1]), dot(x[2], x[2]), dot(x[3], x[3]));
    return vec2(dot(is_there, squares), top(is_there * vec4(top(v[0]), top(v[1]), top(v[2]), top(v[3]))));
}

fn put(spot: u32, v: vec4<f32>, inverse: f32) {
    if spot < params.k / 4u {
        made[spot / 4u][spot % 4u] = codes_of(v, inverse);
    }
}

fn put_four(spots: vec4<u32>, v: mat4x4<f32>, inverse: f32) {
    put(spots.x, v[0], inverse);
    put(spots.y, v[1], inverse);
    put(spots.z, v[2], inverse);
    put(spots.w, v[3], inverse);
}

// Puts the token's codes into `made`; gives their scale.
fn make_token(place: Place) -> f32 {
    let near = place.thread + vec4(0u, 256u, 512u, 768u);
    let far = near + 1024u;
    let two = params.k > MOST / 2u;
    let a = fetch_four(near);
    var b = Four();
    if two {
        b = fetch_four(far);
    }
    let low = seen(a, near);
    let high = seen(b, far);
    found[warp_of(place)] = vec2(warp_sum(low.x + high.x, place), warp_max(max(low.y, high.y), place));
    workgroupBarrier();
    var all = found[0];
    for (var i = 1u; i < TEAMS; i++) {
        all = vec2(all.x + found[i].x, max(all.y, found[i].y));
    }
    let factor = inverseSqrt(all.x / f32(params.k) + bitcast<f32>(params.x_group));
    let largest = all.y * factor;
    put_four(near, a.v, inverse_of(largest) * factor);
    if two {
        put_four(far, b.v, inverse_of(largest) * factor);
    }
    workgroupBarrier();
    return scale_of(largest);
}

// Vec4s of one row of the weight.
struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn fetch_row(row: u32, at: vec4<u32>) -> Quads {
    let i = row * (params.k / QUAD) + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// The scales of those vec4s.
fn fetch_scales(row: u32, at: vec4<u32>) -> vec4<f32> {
    let i = row * ((params.k + params.group - 1u) / params.group) + at * QUAD / params.group;
    return vec4(weight_scales[i.x], weight_scales[i.y], weight_scales[i.z], weight_scales[i.w]);
}

fn dot_row(at: vec4<u32>, w: Quads) -> vec4<f32> {
    let low = vec2(dot_quad(fetch_token(at.x), w.a), dot_quad(fetch_token(at.y), w.b));
    let sums = vec4(low, dot_quad(fetch_token(at.z), w.c), dot_quad(fetch_token(at.w), w.d));
    return vec4<f32>(sums >> vec4(SHIFT));
}

// Rows of a workgroup: so many that workgroups have work for as long as their norm takes, and a GPU has work for all of its processors.
fn rows_of() -> u32 {
    return ROWS * clamp(params.n / 8192u, 1u, 4u);
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let first = rows_of() * linear_workgroup(workgroup, grid);
    if first >= params.n {
        return;
    }
    let token_scale = make_token(place);
    let quads = params.k / QUAD;
    let lane = lane_of(place);
    for (var done = 0u; done < rows_of(); done += ROWS) {
        let row = first + done + 2u * warp_of(place);
        let rows = min(vec2(row, row + 1u), vec2(params.n - 1u)); // beyond the end computed and not stored
        var sums = vec2(0.0);
        for (var quad = lane; quad < quads; quad += 128u) {
            let spots = quad + vec4(0u, 32u, 64u, 96u);
            let at = min(spots, vec4(quads - 1u));
            let w0 = fetch_row(rows.x, at);
            let w1 = fetch_row(rows.y, at);
            let is_there = select(vec4(0.0), vec4(1.0), spots < vec4(quads));
            let factors = mat2x4(fetch_scales(rows.x, at), fetch_scales(rows.y, at));
            sums += vec2(dot(is_there * factors[0], dot_row(at, w0)), dot(is_there * factors[1], dot_row(at, w1)));
        }
        let both = token_scale * vec2(warp_sum(sums.x, place), warp_sum(sums.y, place));
        if lane < 2u && row + lane < params.n {
            store_onto(row + lane, select(both.x, both.y, lane == 1u), addend(row + lane));
        }
    }
}
