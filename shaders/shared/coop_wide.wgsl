// Integer products on the f16 matrix units of few rows of codes (kernels::scaled) with one scale each, or short ones for multiples of 32
// columns: sums as in coop_rows.wgsl, of smaller tiles. Up to 64 rows of codes read the weight once. Where tiles are few, a workgroup has a slice of the columns
// (slices.wgsl), whole rounds.
//
// A workgroup makes the outputs that its format names, rows of codes x rows of weight, a subgroup 32 x 32 (16x64: 16 x 32) of them as 16 x 16 matrices. In 16x64, whose outputs are
// few, four subgroups make the same ones, each of a quarter of a step's columns. What they have is added up at the end.
//
// Workgroups share a core, so that one computes while the others wait: of 64x128 two, with less than 24 KiB of workgroup memory and at most 128 registers a thread, of the others three, with
// less than 17 KiB. What they wait for most is workgroup memory, so 128 rows of the weight share the rows of codes, and threads that store together use different banks (`line_of`).
//
// Weights come from far, so threads load them for a round of columns, of which a step takes a quarter, at once, a round ahead: with less on its
// way memory is not kept busy. A thread has 32 columns of each of its rows; a step takes 4 of each 16, the next ones the
// others: any order will do that both operands have. What an H100 shows: a load is waited for together with all later ones,
// so those of a round are in one place; what is selected from loaded words, or is on a branch, waits where it is written;
// and a load whose words only the next turn of the loop takes is moved there, unless something else looks at them too
// (`looked_at`).
//
// The importing shader has the bindings, `Line`, `fetch_line`, `inside`, `line_bits`, `stage_line` and
// `line_scale`, and imports row_factors.
#import coop_tiles
#import epilogue4
#import halves
#import mask
#import slices

#ifdef tile_16x64
const ROWS = 16u;
const COLS = 64u;
const EACH = 16u; // codes of a row that a thread loads
const OWN_ROWS = 16u; // of a subgroup
const DEPTH = 4u; // sixteens of columns of a step
#else
const COLS = 128u;
const EACH = 32u;
const OWN_ROWS = 32u;
const DEPTH = 2u;
#endif
#ifdef tile_32x128
const ROWS = 32u;
const WG = 128u;
#else
const WG = 256u;
#endif
#ifdef tile_64x128
const ROWS = 64u;
#endif
const OWN_COLS = 32u; // of a subgroup
const SUBGROUPS = WG / 32u;
const DOWN = ROWS / OWN_ROWS; // subgroups that have the same columns
const SLICES = SUBGROUPS / (DOWN * COLS / OWN_COLS); // subgroups that make the same outputs
const OWN = DEPTH / SLICES; // sixteens of a subgroup
const ROUND = 64u * DEPTH; // columns
const PITCH = 4u * DEPTH + 2u; // vec4s from a row of a tile to the next, padded against bank conflicts
const PITCH_X = PITCH;
const PITCH_W = PITCH;
const SUM_PITCH = 4u;
const PARTS = ROUND / 32u; // threads that load a row of the weight
const APART = WG / PARTS; // rows from one of a thread to its next
const PARTS_X = ROUND / EACH; // threads that load a row of codes
const SHARERS = WG / ROWS; // threads that look for the largest scale of a row of codes
const AT_ONCE = WG / 64u; // subgroups whose sums there is room for

var<workgroup> tile_x: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> tile_w: array<vec4<f16>, COLS * PITCH>;
var<workgroup> sums: array<vec4<f32>, WG>; // a matrix of each of `AT_ONCE` subgroups; before, scales
var<workgroup> col_factors: array<vec4<f32>, COLS / 4u>;
var<workgroup> row_factors: array<f32, ROWS>;

// Of a row 32 codes (16x64: 16), and where it has several scales theirs.
struct Codes {
    first: vec4<u32>,
#ifndef tile_16x64
    second: vec4<u32>,
#endif
    scale: f32,
}

// What a thread loads for a round.
struct Batch {
    x: Codes,
    w0: Line,
    w1: Line,
    scale0: f32,
    scale1: f32,
#ifdef tile_32x128
    w2: Line,
    w3: Line,
    scale2: f32,
    scale3: f32,
#endif
}

// Sums of a subgroup: 16 x 16 of its rows and columns each.
struct Sums {
    c00: Sum,
    c01: Sum,
#ifndef tile_16x64
    c10: Sum,
    c11: Sum,
#endif
}

// Have rows of codes several scales?
fn in_groups() -> bool {
    return params.x_group < params.k;
}

// The largest of groups first, first + step, .. before `end`, or one beyond; four at a time, since each load takes long.
fn largest_token_scale(row: u32, first: u32, step: u32, end: u32) -> f32 {
    var most = 0.0;
    for (var g = first; g < end; g += 4u * step) {
        let near = max(token_scale(row, g), token_scale(row, g + step));
        most = max(most, max(near, max(token_scale(row, g + 2u * step), token_scale(row, g + 3u * step))));
    }
    return most;
}

// The largest of the scales that a row's threads have found.
fn most_of(row: u32) -> f32 {
    var most = 0.0;
    for (var i = 0u; i < SHARERS; i++) {
        most = max(most, sums[row * SHARERS + i].x);
    }
    return most;
}

// Of every row of both operands in the tile, its factor.
fn find_factors(thread: u32, tile: Tile) {
    if thread < COLS / 4u {
        col_factors[thread] = weight_factors(tile.col + 4u * thread);
    }
    let first = tile.first / params.x_group + thread % SHARERS;
    let end = (tile.end + params.x_group - 1u) / params.x_group;
    sums[thread] = vec4(largest_token_scale(tile.row + thread / SHARERS, first, SHARERS, end));
    workgroupBarrier();
    if thread < ROWS {
        row_factors[thread] = factor_of(most_of(thread), in_groups());
    }
    workgroupBarrier();
}

// Beyond the last column any codes.
fn fetch_row(row: u32, col: u32) -> Codes {
    let at = min(row, params.m - 1u) * (params.k / 16u);
    let last = params.k / 16u - 1u;
    var scale = 1.0;
    if in_groups() {
        scale = token_scale(row, col / params.x_group);
    }
#ifdef tile_16x64
    return Codes(codes[at + min(col / 16u, last)], scale);
#else
    return Codes(codes[at + min(col / 16u, last)], codes[at + min(col / 16u + 1u, last)], scale);
#endif
}

// Of a round: of codes from (`row`, `col_x`) on, of the weight from (`line`, `col`).
fn fetch(row: u32, col_x: u32, line: u32, col: u32) -> Batch {
    var batch: Batch;
    batch.x = fetch_row(row, col_x);
    batch.w0 = fetch_line(line, col);
    batch.w1 = fetch_line(line + APART, col);
    batch.scale0 = line_scale(line, col);
    batch.scale1 = line_scale(line + APART, col);
#ifdef tile_32x128
    batch.w2 = fetch_line(line + 2u * APART, col);
    batch.w3 = fetch_line(line + 3u * APART, col);
    batch.scale2 = line_scale(line + 2u * APART, col);
    batch.scale3 = line_scale(line + 3u * APART, col);
#endif
    return batch;
}

// Some bits of all that is in the batch.
fn looked_at(batch: Batch) -> u32 {
    var all = batch.x.first ^ line_bits(batch.w0) ^ line_bits(batch.w1);
    var scale = bitcast<u32>(batch.scale0) ^ bitcast<u32>(batch.scale1) ^ bitcast<u32>(batch.x.scale);
#ifndef tile_16x64
    all ^= batch.x.second;
#endif
#ifdef tile_32x128
    all ^= line_bits(batch.w2) ^ line_bits(batch.w3);
    scale ^= bitcast<u32>(batch.scale2) ^ bitcast<u32>(batch.scale3);
#endif
    return all.x ^ all.y ^ all.z ^ all.w ^ scale;
}

fn word_of(words: vec4<u32>, i: u32) -> u32 {
    let half = select(words.xy, words.zw, i >= 2u);
    return select(half.x, half.y, i % 2u == 1u);
}

fn stage_row(at: u32, row: Codes, step: u32) {
    var first = halves8(word_of(row.first, step));
    if in_groups() {
        first *= vec4(f16(row.scale));
    }
    tile_x[at] = first;
#ifndef tile_16x64
    var second = halves8(word_of(row.second, step));
    if in_groups() {
        second *= vec4(f16(row.scale));
    }
    tile_x[at + 1u] = second;
#endif
}

// What is staged of a batch: codes' scales over the factor of the tile's row `line_x`, and zeros beyond the last column.
fn ready(batch: Batch, line_x: u32, col: u32) -> Batch {
    var now = batch;
    if in_groups() {
        now.x.scale *= inverse_of(row_factors[line_x], true);
    }
    now.w0 = inside(now.w0, col);
    now.w1 = inside(now.w1, col);
#ifdef tile_32x128
    now.w2 = inside(now.w2, col);
    now.w3 = inside(now.w3, col);
#endif
    return now;
}

// A quarter of a round.
fn stage(x: u32, w: u32, batch: Batch, step: u32) {
    stage_row(x, batch.x, step);
    stage_line(w, batch.w0, step, batch.scale0);
    stage_line(w + APART * PITCH, batch.w1, step, batch.scale1);
#ifdef tile_32x128
    stage_line(w + 2u * APART * PITCH, batch.w2, step, batch.scale2);
    stage_line(w + 3u * APART * PITCH, batch.w3, step, batch.scale3);
#endif
}

// A subgroup's part of what is staged: its rows start at `x` and `w` of the tiles.
fn multiply(x: u32, w: u32, c: ptr<function, Sums>) {
    workgroupBarrier();
    for (var i = 0u; i < OWN; i++) {
        let b0 = right(w + 4u * i);
        let b1 = right(w + 16u * PITCH + 4u * i);
        let a0 = left(x + 4u * i);
        (*c).c00 = multiply_add(a0, b0, (*c).c00);
        (*c).c01 = multiply_add(a0, b1, (*c).c01);
#ifndef tile_16x64
        let a1 = left(x + 16u * PITCH + 4u * i);
        (*c).c10 = multiply_add(a1, b0, (*c).c10);
        (*c).c11 = multiply_add(a1, b1, (*c).c11);
#endif
    }
    workgroupBarrier();
}

// Stores one matrix of all subgroups, which is at (row, col) of a subgroup's outputs, by way of workgroup memory: `AT_ONCE` subgroups after the other. Those who make the same outputs
// are added up, so some threads have none, the others four. What they are added to is asked for before.
fn finish(sum: Sum, place: Place, tile: Tile, row: u32, col: u32) {
    let warp = warp_of(place);
    let block = place.thread / 64u;
    let quad = place.thread % 64u;
    for (var base = 0u; base < SUBGROUPS; base += AT_ONCE) {
        let made = base / SLICES + block;
        let own = vec2(row + made % DOWN * OWN_ROWS + quad / 4u, col + made / DOWN * OWN_COLS + quad % 4u * 4u);
        let at = vec2(tile.row, tile.col) + own;
        let onto = addend(quad_at(min(at.x, params.m - 1u), min(at.y, params.n - 4u)));
        if warp / AT_ONCE == base / AT_ONCE {
            put_sum(sum, warp % AT_ONCE * 64u);
        }
        workgroupBarrier();
        if block < AT_ONCE / SLICES && at.x < params.m && at.y < params.n {
            var y = vec4<f32>();
            for (var s = 0u; s < SLICES; s++) {
                y += sums[(block * SLICES + s) * 64u + quad];
            }
            store_onto(quad_at(tile.above + at.x, at.y), y * (row_factors[own.x] * col_factors[own.y / 4u]), onto);
        }
        workgroupBarrier();
    }
}

// Which row of the weight a thread loads first. Where four threads load a row, eight that store at the same time have rows four apart, between which are 64 bytes of 128.
fn line_of(thread: u32) -> u32 {
#ifdef tile_16x64
    return thread / PARTS;
#else
    return thread / 32u * 8u + thread % 32u / 8u + thread / 4u % 2u * 4u;
#endif
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let tile = tile_of(workgroup, grid, ROWS, COLS);
    if tile.col >= params.n {
        return;
    }
    let warp = warp_of(place);
    let thread = place.thread;
    let line = line_of(thread);
    let part = thread % PARTS;
#ifdef tile_16x64
    let line_x = thread / PARTS_X;
#else
    let line_x = line;
#endif
    let part_x = thread % PARTS_X;
    var batch = fetch(tile.row + line_x, tile.first + EACH * part_x, tile.col + line, tile.first + 32u * part);
    find_factors(thread, tile);
    var c = Sums();
    let block = warp / SLICES;
    let slice = warp % SLICES * OWN * 4u;
    let x = block % DOWN * OWN_ROWS * PITCH + slice;
    let w = block / DOWN * OWN_COLS * PITCH + slice;
    let to_x = line_x * PITCH + EACH / 16u * part_x;
    let to_w = line * PITCH + 2u * part;
    for (var k = tile.first; k < tile.end; k += ROUND) {
        let now = ready(batch, line_x, k + 32u * part);
        stage(to_x, to_w, now, 0u);
        multiply(x, w, &c);
        stage(to_x, to_w, now, 1u);
        // When half of the words are left: with more registers a core has no room for a second workgroup.
        let next = k + ROUND;
        batch = fetch(tile.row + line_x, next + EACH * part_x, tile.col + line, next + 32u * part);
        multiply(x, w, &c);
        stage(to_x, to_w, now, 2u);
        multiply(x, w, &c);
        stage(to_x, to_w, now, 3u);
        multiply(x, w, &c);
    }
    if params.m == 0u { // never
        sums[thread] = vec4(f32(looked_at(batch)));
    }
    finish(c.c00, place, tile, 0u, 0u);
    finish(c.c01, place, tile, 0u, 16u);
#ifndef tile_16x64
    finish(c.c10, place, tile, 16u, 0u);
    finish(c.c11, place, tile, 16u, 16u);
#endif
}
