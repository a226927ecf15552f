// Products of numbers that are two f16 each, on cooperative matrices: out[row, column] = sum over k of a[k, row] b[k, column]; of the
// four products of halves the three that are not below the last bits of f32, with the word `exact`, where b is one f16
// each, the two there are, and with `single`, where a is too, the one. A workgroup of 8 subgroups makes 256 x 128 sums, a subgroup 64 x 64 as 4 x 4 matrices, 16 steps of k
// at a time: first the products of first bits, while the rest is staged, then those of the rest, while the next first
// bits are. Words are loaded 16 steps ahead. What an H100 shows of three products: it spends 70 % of the time of 2048 steps of k on products,
// a fifth on waiting for loads.
//
// The importing shader has `a` of vec4<u32> and `b` of vec2<u32>, [2, depth(), ..] f16 or [1, depth(), ..], rows of whole 16 bytes; `depth`, `rows`
// and `columns`, their sizes; `left_out`, of tiles by their first row and column; and `finish`, which takes four sums.
#import index
#import matrices
#import sixteen

const ROWS = 256u; // of the workgroup's tile
const COLS = 128u;
const STRIP = 8u; // tiles of rows that are gone through together, so that what they read stays in cache
const STEPS = 16u; // of k at a time
const PITCH_A = 66u; // vec4s from a step of a tile to the next, padded against bank conflicts
const PITCH_B = 34u;
const TILE_A = STEPS * PITCH_A;
const TILE_B = STEPS * PITCH_B;
const WG = 256u;
const APART = 8u; // steps of k from one of a thread to its next

var<workgroup> near_a: array<vec4<f16>, 2u * TILE_A>; // two tiles [k, row] in turn
var<workgroup> near_b: array<vec4<f16>, 2u * TILE_B>; // [k, column]
#ifndef single
var<workgroup> rest_a: array<vec4<f16>, TILE_A>;
#endif
#ifndef exact single
var<workgroup> rest_b: array<vec4<f16>, TILE_B>;
#endif
var<workgroup> sums: array<vec4<f32>, 8u * 64u>; // a matrix of each subgroup

// What a thread loads: of two steps of k 8 rows and 4 columns.
struct Words {
    a0: vec4<u32>,
    a1: vec4<u32>,
    b0: vec2<u32>,
    b1: vec2<u32>,
}

// Where the words are, of first bits, and the first step of k.
struct Origin {
    k: u32,
    a: u32,
    b: u32,
}

// Beyond the last step of k any words.
fn fetch(origin: Origin, k: u32) -> Words {
    let steps = min(vec2(origin.k, origin.k + APART) + k, vec2(depth() - 1u));
    let in_a = steps * (rows() / 8u) + origin.a;
    let in_b = steps * (columns() / 4u) + origin.b;
    return Words(a[in_a.x], a[in_a.y], b[in_b.x], b[in_b.y]);
}

#ifndef single
fn fetch_rest(origin: Origin, k: u32) -> Words {
    let steps = depth() + min(vec2(origin.k, origin.k + APART) + k, vec2(depth() - 1u));
    let in_a = steps * (rows() / 8u) + origin.a;
#ifdef exact
    return Words(a[in_a.x], a[in_a.y], vec2(0u), vec2(0u));
#else
    let in_b = steps * (columns() / 4u) + origin.b;
    return Words(a[in_a.x], a[in_a.y], b[in_b.x], b[in_b.y]);
#endif
}
#endif

fn halves(words: vec2<u32>) -> vec4<f16> {
    return vec4<f16>(vec4(unpack2x16float(words.x), unpack2x16float(words.y)));
}

// Beyond the last step of k b is 0.
fn within(words: vec2<u32>, k: u32) -> vec4<f16> {
    return halves(select(vec2(0u), words, k < depth()));
}

// Rows 0..4 of a thread's eight are staged in the first half of a tile, rows 4..8 in the second: no two threads at one bank.
fn stage_near(thread: u32, tile: u32, words: Words, k: u32) {
    let at_a = tile * TILE_A + thread / 32u * PITCH_A + thread % 32u;
    near_a[at_a] = halves(words.a0.xy);
    near_a[at_a + 32u] = halves(words.a0.zw);
    near_a[at_a + APART * PITCH_A] = halves(words.a1.xy);
    near_a[at_a + APART * PITCH_A + 32u] = halves(words.a1.zw);
    let at_b = tile * TILE_B + thread / 32u * PITCH_B + thread % 32u;
    near_b[at_b] = within(words.b0, k);
    near_b[at_b + APART * PITCH_B] = within(words.b1, k + APART);
}

#ifndef single
fn stage_rest(thread: u32, words: Words, k: u32) {
    let at_a = thread / 32u * PITCH_A + thread % 32u;
    rest_a[at_a] = halves(words.a0.xy);
    rest_a[at_a + 32u] = halves(words.a0.zw);
    rest_a[at_a + APART * PITCH_A] = halves(words.a1.xy);
    rest_a[at_a + APART * PITCH_A + 32u] = halves(words.a1.zw);
#ifndef exact
    let at_b = thread / 32u * PITCH_B + thread % 32u;
    rest_b[at_b] = within(words.b0, k);
    rest_b[at_b + APART * PITCH_B] = within(words.b1, k + APART);
#endif
}
#endif

// The tile's rows are the matrix's columns.
fn left(at: u32) -> Left {
    return coopLoad<Left>(&near_a[at], PITCH_A);
}

#ifndef single
fn left_rest(at: u32) -> Left {
    return coopLoad<Left>(&rest_a[at], PITCH_A);
}
#endif

fn rights(at: u32) -> Rights {
    return Rights(
        coopLoadT<Right>(&near_b[at], PITCH_B),
        coopLoadT<Right>(&near_b[at + 4u], PITCH_B),
        coopLoadT<Right>(&near_b[at + 8u], PITCH_B),
        coopLoadT<Right>(&near_b[at + 12u], PITCH_B),
    );
}

#ifndef exact single
fn rights_rest(at: u32) -> Rights {
    return Rights(
        coopLoadT<Right>(&rest_b[at], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 4u], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 8u], PITCH_B),
        coopLoadT<Right>(&rest_b[at + 12u], PITCH_B),
    );
}
#endif

// Finishes a matrix of the subgroup, a thread two quads of it; `tile_row`: where the tile has its first row.
fn finish_matrix(sum: Sum, place: Place, tile_row: u32, row0: u32, column: u32) {
    let region = warp_of(place) * 64u;
    put_matrix(sum, region, 4u);
    workgroupBarrier();
    for (var e = 0u; e < 2u; e++) {
        let position = tile_row + 8u * e + lane_of(place) / 4u;
        let row = row0 + position / 4u % 32u * 8u + position / 128u * 4u + position % 4u;
        let c = column + lane_of(place) % 4u * 4u;
        if row < rows() && c < columns() {
            finish(row, c, sums[region + 32u * e + lane_of(place)]);
        }
    }
    workgroupBarrier();
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    // The host covers the sums with smaller tiles; of these workgroups the first ones do the work.
    let tile_rows = (rows() + ROWS - 1u) / ROWS;
    let tile_columns = (columns() + COLS - 1u) / COLS;
    let index = linear_workgroup(workgroup, grid);
    let strip = index / (STRIP * tile_columns) * STRIP;
    if strip >= tile_rows {
        return;
    }
    let high = min(STRIP, tile_rows - strip);
    let within_strip = index - strip * tile_columns;
    let row0 = (strip + within_strip % high) * ROWS;
    let column0 = within_strip / high * COLS;
    if column0 >= columns() || left_out(row0, column0) {
        return;
    }
    let thread = place.thread;
    let warp = warp_of(place);
    let x = warp / 2u * 16u; // where the subgroup's rows begin in a token of a tile, and its columns
    let w = warp % 2u * 16u;
    let origin = Origin(
        thread / 32u,
        min(row0 / 8u + thread % 32u, rows() / 8u - 1u),
        min(column0 / 4u + thread % 32u, columns() / 4u - 1u),
    );
    var c = Sums();
    var near = fetch(origin, 0u);
    stage_near(thread, 0u, near, origin.k);
#ifndef single
    var rest = fetch_rest(origin, 0u);
#endif
    near = fetch(origin, STEPS);
    var tile = 0u;
    for (var k = 0u; k < depth(); k += STEPS) {
        let at = tile * TILE_A + x;
        workgroupBarrier();
        let b = rights(tile * TILE_B + w);
        upper(left(at), left(at + 4u), b, &c);
#ifndef single
        stage_rest(thread, rest, origin.k + k);
        rest = fetch_rest(origin, k + STEPS);
        lower(left(at + 8u), left(at + 12u), b, &c);
        workgroupBarrier();
#ifndef exact
        let d = rights_rest(w);
        upper(left(at), left(at + 4u), d, &c);
#endif
        upper(left_rest(x), left_rest(x + 4u), b, &c);
#endif
        tile = 1u - tile;
        stage_near(thread, tile, near, origin.k + k + STEPS);
        near = fetch(origin, k + 2u * STEPS);
#ifdef single
        lower(left(at + 8u), left(at + 12u), b, &c);
#else
#ifndef exact
        lower(left(at + 8u), left(at + 12u), d, &c);
#endif
        lower(left_rest(x + 8u), left_rest(x + 12u), b, &c);
#endif
    }
    let row = warp / 2u * 64u;
    let column = column0 + warp % 2u * 64u;
    finish_matrix(c.c00, place, row, row0, column);
    finish_matrix(c.c01, place, row, row0, column + 16u);
    finish_matrix(c.c02, place, row, row0, column + 32u);
    finish_matrix(c.c03, place, row, row0, column + 48u);
    finish_matrix(c.c10, place, row + 16u, row0, column);
    finish_matrix(c.c11, place, row + 16u, row0, column + 16u);
    finish_matrix(c.c12, place, row + 16u, row0, column + 32u);
    finish_matrix(c.c13, place, row + 16u, row0, column + 48u);
    finish_matrix(c.c20, place, row + 32u, row0, column);
    finish_matrix(c.c21, place, row + 32u, row0, column + 16u);
    finish_matrix(c.c22, place, row + 32u, row0, column + 32u);
    finish_matrix(c.c23, place, row + 32u, row0, column + 48u);
    finish_matrix(c.c30, place, row + 48u, row0, column);
    finish_matrix(c.c31, place, row + 48u, row0, column + 16u);
    finish_matrix(c.c32, place, row + 48u, row0, column + 32u);
    finish_matrix(c.c33, place, row + 48u, row0, column + 48u);
}
