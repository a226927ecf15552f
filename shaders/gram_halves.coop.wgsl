// gram_halves.wgsl on cooperative matrices: of the four products of two f16 each, the three that are not below the last bits of
// f32. A workgroup of 8 subgroups makes 256 x 128 sums, a subgroup 64 x 64 as 4 x 4 matrices, 16 tokens a step: first
// the products of first bits, while the rest is staged, then those of the rest, while the next step's first bits are. Words
// are loaded a step ahead.
#import compensated
#import index
#import matrices

struct Params {
    tokens: u32,
    n: u32, // columns of a, a multiple of 8
    m: u32, // columns of b, likewise
    upper: u32, // 1: b is a, and tiles of 128 x 128 wholly below the diagonal stay as they are
    zero: u32, // always 0, which no compiler knows
}

const ROWS = 256u; // of the workgroup's tile
const COLS = 128u;
const STRIP = 8u; // tiles of rows that are gone through together, so that what they read stays in cache
const TOKENS = 16u; // of a step
const PITCH_A = 66u; // vec4s from a token of a tile to the next, padded against bank conflicts
const PITCH_B = 34u;
const TILE_A = TOKENS * PITCH_A;
const TILE_B = TOKENS * PITCH_B;
const WG = 256u;
const APART = 8u; // tokens from one of a thread to its next

@group(0) @binding(0) var<storage, read> a: array<vec4<u32>>; // [2, tokens, n] f16: first bits, then the rest
@group(0) @binding(1) var<storage, read> a_scales: array<f32>; // [n], powers of two
@group(0) @binding(2) var<storage, read> b: array<vec2<u32>>; // [2, tokens, m] f16, likewise
@group(0) @binding(3) var<storage, read> b_scales: array<vec4<f32>>; // [m]
@group(0) @binding(4) var<storage, read_write> totals: array<vec4<f32>>; // [n, m]
@group(0) @binding(5) var<storage, read_write> lost: array<vec4<f32>>; // [n, m]: what rounding the totals lost
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> near_a: array<vec4<f16>, 2u * TILE_A>; // two tiles [token, row] in turn
var<workgroup> near_b: array<vec4<f16>, 2u * TILE_B>; // [token, column]
var<workgroup> rest_a: array<vec4<f16>, TILE_A>;
var<workgroup> rest_b: array<vec4<f16>, TILE_B>;
var<workgroup> sums: array<vec4<f32>, 8u * 64u>; // a matrix of each subgroup

// What a thread loads for a step: of two tokens 8 rows and 4 columns.
struct Words {
    a0: vec4<u32>,
    a1: vec4<u32>,
    b0: vec2<u32>,
    b1: vec2<u32>,
}

// Where the words are: of first bits, of the tile's first tokens.
struct Origin {
    token: u32,
    a: u32,
    b: u32,
}

struct Sums {
    c00: Sum,
    c01: Sum,
    c02: Sum,
    c03: Sum,
    c10: Sum,
    c11: Sum,
    c12: Sum,
    c13: Sum,
    c20: Sum,
    c21: Sum,
    c22: Sum,
    c23: Sum,
    c30: Sum,
    c31: Sum,
    c32: Sum,
    c33: Sum,
}

struct Rights {
    b0: Right,
    b1: Right,
    b2: Right,
    b3: Right,
}

// `first`: the token before which the first bits, or the rest, begin. Beyond the last token any words.
fn fetch(origin: Origin, first: u32, step: u32) -> Words {
    let tokens = first + min(vec2(origin.token, origin.token + APART) + step, vec2(params.tokens - 1u));
    let rows = tokens * (params.n / 8u) + origin.a;
    let columns = tokens * (params.m / 4u) + origin.b;
    return Words(a[rows.x], a[rows.y], b[columns.x], b[columns.y]);
}

fn halves(words: vec2<u32>) -> vec4<f16> {
    return vec4<f16>(vec4(unpack2x16float(words.x), unpack2x16float(words.y)));
}

// Beyond the last token b is 0.
fn within(words: vec2<u32>, token: u32) -> vec4<f16> {
    return halves(select(vec2(0u), words, token < params.tokens));
}

// Rows 0..4 of a thread's eight are staged in the first half of a tile, rows 4..8 in the second: no two threads at one bank.
fn stage_near(thread: u32, tile: u32, words: Words, token: u32) {
    let at_a = tile * TILE_A + thread / 32u * PITCH_A + thread % 32u;
    near_a[at_a] = halves(words.a0.xy);
    near_a[at_a + 32u] = halves(words.a0.zw);
    near_a[at_a + APART * PITCH_A] = halves(words.a1.xy);
    near_a[at_a + APART * PITCH_A + 32u] = halves(words.a1.zw);
    let at_b = tile * TILE_B + thread / 32u * PITCH_B + thread % 32u;
    near_b[at_b] = within(words.b0, token);
    near_b[at_b + APART * PITCH_B] = within(words.b1, token + APART);
}

fn stage_rest(thread: u32, words: Words, token: u32) {
    let at_a = thread / 32u * PITCH_A + thread % 32u;
    rest_a[at_a] = halves(words.a0.xy);
    rest_a[at_a + 32u] = halves(words.a0.zw);
    rest_a[at_a + APART * PITCH_A] = halves(words.a1.xy);
    rest_a[at_a + APART * PITCH_A + 32u] = halves(words.a1.zw);
    let at_b = thread / 32u * PITCH_B + thread % 32u;
    rest_b[at_b] = within(words.b0, token);
    rest_b[at_b + APART * PITCH_B] = within(words.b1, token + APART);
}

// The tile's rows are the matrix's columns.
fn left(at: u32) -> Left {
    return coopLoad<Left>(&near_a[at], PITCH_A);
}

fn left_rest(at: u32) -> Left {
    return coopLoad<Left>(&rest_a[at], PITCH_A);
}

fn rights(at: u32) -> Rights {
    return Rights(
        coopLoadT<Right>(&near_b[at], PITCH_B),
        coopLoadT<Right>(&near_b[at + 4u], PITCH_B),
        coopLoadT<Right>(&near_b[at + 8u], PITCH_B),
        coopLoadT<Right>(&near_b[at + 12u], PITCH_B),
    );
}

fn rights_rest(at: u32) -> Rights {
    return Rights(
        coopLoadT<Right>(&rest_b[at], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 4u], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 8u], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 12u], PITCH_B),
    );
}

// Adds the products of a subgroup's first 32 rows.
fn upper(a0: Left, a1: Left, b: Rights, c: ptr<function, Sums>) {
    (*c).c00 = multiply_add(a0, b.b0, (*c).c00);
    (*c).c01 = multiply_add(a0, b.b1, (*c).c01);
    (*c).c02 = multiply_add(a0, b.b2, (*c).c02);
    (*c).c03 = multiply_add(a0, b.b3, (*c).c03);
    (*c).c10 = multiply_add(a1, b.b0, (*c).c10);
    (*c).c11 = multiply_add(a1, b.b1, (*c).c11);
    (*c).c12 = multiply_add(a1, b.b2, (*c).c12);
    (*c).c13 = multiply_add(a1, b.b3, (*c).c13);
}

// And of the others.
fn lower(a2: Left, a3: Left, b: Rights, c: ptr<function, Sums>) {
    (*c).c20 = multiply_add(a2, b.b0, (*c).c20);
    (*c).c21 = multiply_add(a2, b.b1, (*c).c21);
    (*c).c22 = multiply_add(a2, b.b2, (*c).c22);
    (*c).c23 = multiply_add(a2, b.b3, (*c).c23);
    (*c).c30 = multiply_add(a3, b.b0, (*c).c30);
    (*c).c31 = multiply_add(a3, b.b1, (*c).c31);
    (*c).c32 = multiply_add(a3, b.b2, (*c).c32);
    (*c).c33 = multiply_add(a3, b.b3, (*c).c33);
}

// Adds four sums of a row to the totals.
fn add(at: u32, sum: vec4<f32>) {
    let before = totals[at];
    let x = two_sum(before.x, sum.x, params.zero);
    let y = two_sum(before.y, sum.y, params.zero);
    let z = two_sum(before.z, sum.z, params.zero);
    let w = two_sum(before.w, sum.w, params.zero);
    totals[at] = vec4(x.x, y.x, z.x, w.x);
    lost[at] += vec4(x.y, y.y, z.y, w.y);
}

// Adds a matrix of the subgroup, a thread two quads of it: `quad` and `row` are where the tile has its first row.
fn finish(sum: Sum, place: Place, tile_row: u32, row0: u32, column: u32) {
    let region = warp_of(place) * 64u;
    coopStoreT(sum, &sums[region], 4u);
    workgroupBarrier();
    for (var e = 0u; e < 2u; e++) {
        let position = tile_row + 8u * e + place.lane / 4u;
        let row = row0 + position / 4u % 32u * 8u + position / 128u * 4u + position % 4u;
        let first = select(0u, row / 128u * 128u, params.upper == 1u);
        let c = column + place.lane % 4u * 4u;
        if row < params.n && c < params.m && c >= first {
            let factor = a_scales[row] * b_scales[c / 4u];
            add(row * (params.m / 4u) + c / 4u, sums[region + 32u * e + place.lane] * factor);
        }
    }
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    // The host covers the sums with tiles of 128 x 128; of these workgroups the first ones do the work.
    let tile_rows = (params.n + ROWS - 1u) / ROWS;
    let tile_columns = (params.m + COLS - 1u) / COLS;
    let index = linear_workgroup(workgroup, grid);
    let strip = index / (STRIP * tile_columns) * STRIP;
    if strip >= tile_rows {
        return;
    }
    let high = min(STRIP, tile_rows - strip);
    let within_strip = index - strip * tile_columns;
    let row0 = (strip + within_strip % high) * ROWS;
    let column0 = within_strip / high * COLS;
    if column0 >= params.m || (params.upper == 1u && column0 < row0) {
        return;
    }
    let thread = place.thread;
    let warp = warp_of(place);
    let x = warp / 2u * 16u; // where the subgroup's rows begin in a token of a tile, and its columns
    let w = warp % 2u * 16u;
    let origin = Origin(
        thread / 32u,
        min(row0 / 8u + thread % 32u, params.n / 8u - 1u),
        min(column0 / 4u + thread % 32u, params.m / 4u - 1u),
    );
    var c = Sums();
    var near = fetch(origin, 0u, 0u);
    stage_near(thread, 0u, near, origin.token);
    var rest = fetch(origin, params.tokens, 0u);
    near = fetch(origin, 0u, TOKENS);
    var tile = 0u;
    for (var step = 0u; step < params.tokens; step += TOKENS) {
        let at = tile * TILE_A + x;
        workgroupBarrier();
        let b = rights(tile * TILE_B + w);
        upper(left(at), left(at + 4u), b, &c);
        stage_rest(thread, rest, origin.token + step);
        rest = fetch(origin, params.tokens, step + TOKENS);
        lower(left(at + 8u), left(at + 12u), b, &c);
        workgroupBarrier();
        let d = rights_rest(w);
        upper(left(at), left(at + 4u), d, &c);
        upper(left_rest(x), left_rest(x + 4u), b, &c);
        tile = 1u - tile;
        stage_near(thread, tile, near, origin.token + step + TOKENS);
        near = fetch(origin, 0u, step + 2u * TOKENS);
        lower(left(at + 8u), left(at + 12u), d, &c);
        lower(left_rest(x + 8u), left_rest(x + 12u), b, &c);
    }
    let row = warp / 2u * 64u;
    let column = column0 + warp % 2u * 64u;
    finish(c.c00, place, row, row0, column);
    finish(c.c01, place, row, row0, column + 16u);
    finish(c.c02, place, row, row0, column + 32u);
    finish(c.c03, place, row, row0, column + 48u);
    finish(c.c10, place, row + 16u, row0, column);
    finish(c.c11, place, row + 16u, row0, column + 16u);
    finish(c.c12, place, row + 16u, row0, column + 32u);
    finish(c.c13, place, row + 16u, row0, column + 48u);
    finish(c.c20, place, row + 32u, row0, column);
    finish(c.c21, place, row + 32u, row0, column + 16u);
    finish(c.c22, place, row + 32u, row0, column + 32u);
    finish(c.c23, place, row + 32u, row0, column + 48u);
    finish(c.c30, place, row + 48u, row0, column);
    finish(c.c31, place, row + 48u, row0, column + 16u);
    finish(c.c32, place, row + 48u, row0, column + 32u);
    finish(c.c33, place, row + 48u, row0, column + 48u);
}
