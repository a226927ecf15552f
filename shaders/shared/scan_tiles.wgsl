// chunk_scan.wgsl on cooperative matrices, as both forms have it (chunk_scan.coop.wgsl, chunk_scan.half_coop.wgsl). One workgroup: 128
// tokens by 64 columns of one head, 32 by 32 a subgroup. Both terms are one product of rows with columns: first of decayed C with the
// entering state, STEP elements of the state a step, then of decayed C·B, with D on its diagonal, with x, STEP tokens s a step. So sums
// stay in the matrices from the first step to the last. What a step needs is loaded while the matrices of one before are
// multiplied. Workgroup memory is below 24 KiB, so that two workgroups share a core (docs/performance.md).
//
// The importing shader has the bindings of chunk_scan as vec4s of words, called units; `const NUMBERS` of a unit, `PITCH` and `PITCH_X`,
// vec4s from a row of a tile to the next and from a token of x; `terms`, which goes through the steps, those of so many tokens s last, and
// `store` of a matrix.
#import index
#import matrices
#import warps

const WG = 256u;
const ROWS = 128u; // tokens of a workgroup
const COLS = 64u / NUMBERS; // units of columns
const UNITS = 4u; // of a step
const STEP = UNITS * NUMBERS; // elements of the state, or tokens s, of a step
const APART = 64u; // rows from one of a thread to its next

var<workgroup> lefts: array<vec4<f16>, ROWS * PITCH>; // [token, step's element]
var<workgroup> rights: array<vec4<f16>, 64u * PITCH>; // [column, element of the state], or [token, column]
var<workgroup> sums: array<vec4<f32>, 512>; // a matrix of each subgroup; before, what weights of tokens s are made of

// What a thread loads of a step: a unit of two rows of the left factor, and of a row of the right one.
struct Batch {
    l0: vec4<u32>,
    l1: vec4<u32>,
    r: vec4<u32>,
}

// Where a workgroup and a thread are.
struct Spot {
    thread: u32,
    line: u32, // the thread's first row of the tiles
    part: u32, // its unit of a step
    row0: u32, // first token
    first: u32, // of the chunk
    last: u32,
    base: u32, // of the head's dt
    c_at: u32, // units in a row of xbc
    x_at: u32,
    x_end: u32,
    products_at: u32, // and of products
    state_at: u32, // rows of the entering state
    state_last: u32,
    decay: vec2<f32>, // sums of dt A of the thread's rows
    grown: vec2<f32>, // their exp
    skip: f32, // D
}

fn stride() -> u32 {
    return (params.heads * params.head_dim + 2u * params.groups * params.state) / NUMBERS;
}

// Units of a chunk's products.
fn chunk_units() -> u32 {
    return (params.chunk + NUMBERS - 1u) / NUMBERS;
}

// Of a step of the state's elements.
fn fetch_state(spot: Spot, step: u32) -> Batch {
    let units = params.state / NUMBERS;
    let unit = min(UNITS * step + spot.part, units - 1u);
    let row = spot.row0 + spot.line;
    return Batch(
        xbc[min(row, spot.last) * stride() + spot.c_at + unit],
        xbc[min(row + APART, spot.last) * stride() + spot.c_at + unit],
        entering[min(spot.state_at + spot.line, spot.state_last) * units + unit],
    );
}

// What C of the thread's rows is multiplied by: 0 beyond the state's last element.
fn grown_of(spot: Spot, step: u32) -> vec2<f32> {
    return select(vec2(0.0), spot.grown, UNITS * step + spot.part < params.state / NUMBERS);
}

// Of a step's tokens s.
fn fetch_tokens(spot: Spot, step: u32) -> Batch {
    let unit = min(UNITS * step + spot.part, chunk_units() - 1u) + spot.products_at;
    let row = spot.row0 + spot.line;
    let pitch = params.groups * chunk_units();
    let s = min(spot.first + STEP * step + spot.thread / COLS, spot.last);
    return Batch(
        products[min(row, spot.last) * pitch + unit],
        products[min(row + APART, spot.last) * pitch + unit],
        xbc[s * stride() + min(spot.x_at + spot.thread % COLS, spot.x_end - 1u)],
    );
}

// The tokens of a step by how many of them the thread's first row is after the chunk's first.
fn block_of(spot: Spot) -> u32 {
    return (spot.row0 - spot.first + spot.line) / STEP;
}

// Weights of a row with four of the tokens of the step that it is in: zero where s > l, and D where s is l.
fn masked(spot: Spot, quad: u32, value: vec4<f32>) -> vec4<f32> {
    let s = 4u * quad + vec4(0u, 1u, 2u, 3u);
    let l = vec4(spot.line % STEP);
    return select(vec4(0.0), value, s <= l) + select(vec4(0.0), vec4(spot.skip), s == l);
}

#ifdef coop_emulated
fn tile_at(tile: u32, at: u32) -> vec4<f16> {
    if tile == 0u {
        return lefts[at];
    }
    return rights[at];
}

fn left(at: u32) -> Left {
    return Factor(0u, at, PITCH, false);
}

fn right(at: u32) -> Right {
    return Factor(1u, at, PITCH, true);
}

fn right_by_rows(at: u32) -> Right {
    return Factor(1u, at, PITCH_X, false);
}
#else
fn left(at: u32) -> Left {
    return coopLoadT<Left>(&lefts[at], PITCH);
}

// Of a tile whose rows are the matrix's columns.
fn right(at: u32) -> Right {
    return coopLoad<Right>(&rights[at], PITCH);
}

// Of one whose rows are the matrix's.
fn right_by_rows(at: u32) -> Right {
    return coopLoadT<Right>(&rights[at], PITCH_X);
}
#endif

struct Sums {
    c00: Sum,
    c01: Sum,
    c10: Sum,
    c11: Sum,
}

// What a subgroup multiplies.
struct Part {
    top: u32, // its first token
    left: u32, // its rows in the tile of the left factor
    right: u32, // its columns in that of the right one, of the state
    right_x: u32, // and of tokens
}

// Steps of the state's elements.
fn state_steps() -> u32 {
    return (params.state / NUMBERS + UNITS - 1u) / UNITS;
}

// Whether a step of tokens s has some that the subgroup's rows read.
fn reads(spot: Spot, step: u32, part: Part) -> bool {
    return spot.first + STEP * step < part.top + 32u;
}

fn find_decays(spot: ptr<function, Spot>) {
    let rows = (*spot).base + min((*spot).row0 + (*spot).line + vec2(0u, APART), vec2((*spot).last));
    (*spot).decay = vec2(da_cumsum[rows.x], da_cumsum[rows.y]);
    (*spot).grown = exp((*spot).decay);
}

fn scan(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let p_end = params.head_dim / NUMBERS;
    let n_end = params.state / NUMBERS;
    let p_tiles = (p_end + COLS - 1u) / COLS;
    let row_tiles = (params.chunk + ROWS - 1u) / ROWS;
    var item = linear_workgroup(workgroup, grid);
    let p0 = item % p_tiles * COLS;
    item /= p_tiles;
    let head = item % params.heads;
    item /= params.heads;
    let chunk = item / row_tiles;
    let first = chunk * params.chunk;
    let row0 = first + item % row_tiles * ROWS;
    let end = min(first + params.chunk, params.tokens);
    if row0 >= end {
        return;
    }
    var spot: Spot;
    spot.thread = 32u * warp_of(place) + lane_of(place);
    // Rows 0, 2, 4, 6, 1, .. of each eight: four that are staged together share no bank.
    let quad = spot.thread / 4u;
    spot.line = (quad & ~7u) | ((quad & 3u) << 1u) | ((quad >> 2u) & 1u);
    spot.part = spot.thread % UNITS;
    spot.row0 = row0;
    spot.last = end - 1u;
    spot.first = first;
    spot.base = head * params.tokens;
    let group = head / (params.heads / params.groups);
    spot.c_at = params.heads * p_end + (params.groups + group) * n_end;
    spot.x_at = head * p_end + p0;
    spot.x_end = head * p_end + p_end;
    spot.products_at = group * chunk_units();
    spot.state_at = (chunk * params.heads + head) * params.head_dim + NUMBERS * p0;
    spot.state_last = (chunk * params.heads + head + 1u) * params.head_dim - 1u;
    spot.skip = d[head];
    let warp = warp_of(place);
    let top = row0 + warp / 2u * 32u;
    let side = warp % 2u;
    let part = Part(top, warp / 2u * 32u * PITCH, side * 32u * PITCH, side * 8u);
    let c = terms(&spot, part, min(row0 + ROWS, end) - first, place);
    let column = spot.x_at + side * 32u / NUMBERS;
    store(c.c00, place, top, spot.last, column, spot.x_end);
    store(c.c01, place, top, spot.last, column + 16u / NUMBERS, spot.x_end);
    store(c.c10, place, top + 16u, spot.last, column, spot.x_end);
    store(c.c11, place, top + 16u, spot.last, column + 16u / NUMBERS, spot.x_end);
}
