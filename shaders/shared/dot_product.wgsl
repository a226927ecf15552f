// Integer products from tiles in workgroup memory, for shapes in blocks: 64 x 128 outputs a workgroup, 4 x 16 a thread, 64
// columns of the operands at a time, of which four threads load a row. A thread takes 16 codes of its rows and columns at
// once from the tiles. Four of its columns lie next to each other, with one load of their scales and, but in the format `blocks`, whose outputs
// need not be whole vec4s, one store a row; in the tile they lie 8 apart, so that threads which read them share no bank.
//
// The importing shader has the bindings, `fetch_weight`, 16 codes of a row, and `stage_weight`, which makes them int8,
// `const UNIT`, what one of these stands for, `const HALF_TILES`: may a span of the scales end after half of a tile's columns (or do all end
// with a tile), and `const ONE_SPAN`: is a row one span? Else there
// are f32 sums beside those of the span, for which a thread has fewer registers: then it makes 4 x 8 outputs and a workgroup 64 x 64,
// so that as many threads share a core.
//
// What makes it fast on NVIDIA's compiler: loads without a choice behind them, which would be waited for at once (zeros beyond the
// last column come when codes are staged); the four steps of a tile written out, without a question between them where none is needed; sums
// word by word over all rows; and a row's only scale left to the end.
#import blocks
#import dot
#import slices
#ifdef blocks
#import store_columns
#else
#import epilogue4
#endif
#import weight_scales

const ROWS = 64u; // of the workgroup's tile
const COLS = select(64u, 128u, ONE_SPAN);
const ACROSS = 8u; // threads along the columns
const DOWN = 16u; // and along the rows
const DEPTH = 64u; // columns of the operands at a time
const PITCH = 5u; // vec4s from a row of a tile to the next: 4, padded against bank conflicts
const APART = 32u; // rows from one that a thread loads to its next

var<workgroup> tile_x: array<vec4<u32>, ROWS * PITCH>;
var<workgroup> tile_w: array<vec4<u32>, COLS * PITCH>;

// 16 codes of each row of a thread.
struct Rows {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// Sums of a thread's rows over a span, of 8 columns.
struct Sums {
    c0: vec4<i32>,
    c1: vec4<i32>,
    c2: vec4<i32>,
    c3: vec4<i32>,
    c4: vec4<i32>,
    c5: vec4<i32>,
    c6: vec4<i32>,
    c7: vec4<i32>,
}

// Over all spans, scaled.
struct Total {
    c0: vec4<f32>,
    c1: vec4<f32>,
    c2: vec4<f32>,
    c3: vec4<f32>,
    c4: vec4<f32>,
    c5: vec4<f32>,
    c6: vec4<f32>,
    c7: vec4<f32>,
}

fn dots(x: vec4<u32>, w: u32) -> vec4<i32> {
    return vec4(dot_codes(x.x, w), dot_codes(x.y, w), dot_codes(x.z, w), dot_codes(x.w, w));
}

// With 16 codes of a column.
fn add(sum: vec4<i32>, x: Rows, w: vec4<u32>) -> vec4<i32> {
    let a = sum + dots(vec4(x.a.x, x.b.x, x.c.x, x.d.x), w.x);
    let b = a + dots(vec4(x.a.y, x.b.y, x.c.y, x.d.y), w.y);
    let c = b + dots(vec4(x.a.z, x.b.z, x.c.z, x.d.z), w.z);
    return c + dots(vec4(x.a.w, x.b.w, x.c.w, x.d.w), w.w);
}

// With 16 codes of 8 columns, in the tile from `w` on.
fn add8(sums: Sums, x: Rows, w: u32) -> Sums {
    return Sums(
        add(sums.c0, x, tile_w[w]),
        add(sums.c1, x, tile_w[w + ACROSS * PITCH]),
        add(sums.c2, x, tile_w[w + 2u * ACROSS * PITCH]),
        add(sums.c3, x, tile_w[w + 3u * ACROSS * PITCH]),
        add(sums.c4, x, tile_w[w + 4u * ACROSS * PITCH]),
        add(sums.c5, x, tile_w[w + 5u * ACROSS * PITCH]),
        add(sums.c6, x, tile_w[w + 6u * ACROSS * PITCH]),
        add(sums.c7, x, tile_w[w + 7u * ACROSS * PITCH]),
    );
}

// Scales of the group that column `first` of the operands is in, of four rows.
fn row_scales(row: u32, first: u32) -> vec4<f32> {
    let rows = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(params.m - 1u));
    let i = rows * ((params.k + params.x_group - 1u) / params.x_group) + first / params.x_group;
    return vec4(scales[i.x], scales[i.y], scales[i.z], scales[i.w]);
}

fn column_scales(col: u32, first: u32) -> vec4<f32> {
    let groups = (params.k + params.group - 1u) / params.group;
    return four_scales(first_scales(min(col, params.n - 1u), groups) + first / params.group);
}

// Adds sums times scales of four rows and 8 columns, of which `low` are the first four.
fn add_times(total: Total, sums: Sums, rows: vec4<f32>, low: vec4<f32>, high: vec4<f32>) -> Total {
    return Total(
        total.c0 + vec4<f32>(sums.c0) * (rows * low.x),
        total.c1 + vec4<f32>(sums.c1) * (rows * low.y),
        total.c2 + vec4<f32>(sums.c2) * (rows * low.z),
        total.c3 + vec4<f32>(sums.c3) * (rows * low.w),
        total.c4 + vec4<f32>(sums.c4) * (rows * high.x),
        total.c5 + vec4<f32>(sums.c5) * (rows * high.y),
        total.c6 + vec4<f32>(sums.c6) * (rows * high.z),
        total.c7 + vec4<f32>(sums.c7) * (rows * high.w),
    );
}

// With the sums of the span that begins at `first`, but for the scale that is the row's only one: of the tokens where that has one.
fn add_scaled(total: Total, sums: Sums, row: u32, col: u32, first: u32) -> Total {
    let one = vec4(1.0);
    if params.x_group == params.k {
        return add_times(total, sums, one, column_scales(col, first), column_scales(col + 4u * ACROSS, first));
    }
    let rows = row_scales(row, first);
    if params.group == params.k {
        return add_times(total, sums, rows, one, one);
    }
    return add_times(total, sums, rows, column_scales(col, first), column_scales(col + 4u * ACROSS, first));
}

fn next_span(first: u32, span: u32) -> u32 {
    return min(first + span, params.k - 1u);
}

#ifdef blocks
fn store_four(y: vec4<f32>, row: u32, col: u32) {
    store_at(row, col, y.x);
    if col + 1u < params.n {
        store_at(row, col + 1u, y.y);
    }
    if col + 2u < params.n {
        store_at(row, col + 2u, y.z);
    }
    if col + 3u < params.n {
        store_at(row, col + 3u, y.w);
    }
}
#else
fn store_four(y: vec4<f32>, row: u32, col: u32) {
    let at = quad_at(row, col);
    store_onto(at, y, addend(at));
}
#endif

// Four rows of four columns, one a column of `block`; `above`: rows of out before those of the product.
fn store_block(block: mat4x4<f32>, above: u32, row: u32, col: u32) {
    if col >= params.n {
        return;
    }
    let rows = transpose(block);
    if row < params.m {
        store_four(rows[0], above + row, col);
    }
    if row + 1u < params.m {
        store_four(rows[1], above + row + 1u, col);
    }
    if row + 2u < params.m {
        store_four(rows[2], above + row + 2u, col);
    }
    if row + 3u < params.m {
        store_four(rows[3], above + row + 3u, col);
    }
}

// 8 columns of four rows, times what is left of the scales.
fn store8(total: Total, above: u32, row: u32, col: u32) {
    var rows = vec4(UNIT);
    var low = vec4(1.0);
    var high = vec4(1.0);
    if params.x_group == params.k {
        rows *= row_scales(row, 0u);
    } else if params.group == params.k {
        low = column_scales(col, 0u);
        high = column_scales(col + 4u * ACROSS, 0u);
    }
    let near = mat4x4(
        total.c0 * (rows * low.x),
        total.c1 * (rows * low.y),
        total.c2 * (rows * low.z),
        total.c3 * (rows * low.w),
    );
    let far = mat4x4(
        total.c4 * (rows * high.x),
        total.c5 * (rows * high.y),
        total.c6 * (rows * high.z),
        total.c7 * (rows * high.w),
    );
    store_block(near, above, row, col);
    store_block(far, above, row, col + 4u * ACROSS);
}

// All sums of a thread; the high ones only where a row is one span.
struct All {
    low: Sums,
    high: Sums,
}

struct Totals {
    low: Total,
    high: Total,
}

// Step `i` of the tiles: 16 columns of the operands.
fn multiply(sums: All, thread: vec3<u32>, i: u32) -> All {
    let at = 4u * thread.y * PITCH + i;
    let x = Rows(tile_x[at], tile_x[at + PITCH], tile_x[at + 2u * PITCH], tile_x[at + 3u * PITCH]);
    let w = thread.x * PITCH + i;
    let low = add8(sums.low, x, w);
    if !ONE_SPAN {
        return All(low, sums.high);
    }
    return All(low, add8(sums.high, x, w + 8u * ACROSS * PITCH));
}

fn add_spans(total: Totals, sums: All, row: u32, col: u32, first: u32) -> Totals {
    let low = add_scaled(total.low, sums.low, row, col, first);
    if !ONE_SPAN {
        return Totals(low, total.high);
    }
    return Totals(low, add_scaled(total.high, sums.high, row, col + 8u * ACROSS, first));
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: vec3<u32>) {
    // The host covers the outputs with tiles of 64 x 64; of twice as wide ones the first half of the workgroups do the work.
    let tile = tile_of(workgroup, grid, ROWS, COLS);
    if tile.col >= params.n {
        return;
    }
    let row0 = tile.row;
    let col0 = tile.col;
    let own = thread.y * ACROSS + thread.x;
    let line = own / 4u;
    let part = own % 4u;
    let to = line * PITCH + part;
    let column = 4u * (line % ACROSS) + line / ACROSS; // that line `line` of the tile holds
    let row = row0 + 4u * thread.y;
    let col = col0 + 4u * thread.x;
    let span = min(params.group, params.x_group);
    var left = span; // columns of the span to come
    var first = tile.first; // of the span
    var sums = All();
    var total = Totals();
    let begin = tile.first + 16u * part;
    var next_x0 = raw_codes(row0 + line, begin);
    var next_x1 = raw_codes(row0 + line + APART, begin);
    var next_w0 = fetch_weight(col0 + column, begin);
    var next_w1 = fetch_weight(col0 + column + APART, begin);
    var next_w2 = fetch_weight(col0 + column + 2u * APART, begin);
    var next_w3 = fetch_weight(col0 + column + 3u * APART, begin);
    for (var k = tile.first; k < tile.end; k += DEPTH) {
        let inside = vec4(select(0u, ~0u, k + 16u * part < params.k));
        tile_x[to] = next_x0 & inside;
        tile_x[to + APART * PITCH] = next_x1 & inside;
        tile_w[to] = stage_weight(next_w0);
        tile_w[to + APART * PITCH] = stage_weight(next_w1);
        if ONE_SPAN {
            tile_w[to + 2u * APART * PITCH] = stage_weight(next_w2);
            tile_w[to + 3u * APART * PITCH] = stage_weight(next_w3);
        }
        workgroupBarrier();
        // The next words come while these are multiplied.
        let ahead = k + DEPTH + 16u * part;
        next_x0 = raw_codes(row0 + line, ahead);
        next_x1 = raw_codes(row0 + line + APART, ahead);
        next_w0 = fetch_weight(col0 + column, ahead);
        next_w1 = fetch_weight(col0 + column + APART, ahead);
        if ONE_SPAN {
            next_w2 = fetch_weight(col0 + column + 2u * APART, ahead);
            next_w3 = fetch_weight(col0 + column + 3u * APART, ahead);
        }
        // Spans end after whole 32 columns, or with the row, where what is left of them is none of these multiples.
        sums = multiply(sums, thread, 0u);
        sums = multiply(sums, thread, 1u);
        left -= 32u;
        if HALF_TILES && left == 0u {
            total = add_spans(total, sums, row, col, first);
            sums = All();
            first = next_span(first, span);
            left = span;
        }
        sums = multiply(sums, thread, 2u);
        sums = multiply(sums, thread, 3u);
        left -= 32u;
        if !ONE_SPAN && left == 0u {
            total = add_spans(total, sums, row, col, first);
            sums = All();
            first = next_span(first, span);
            left = span;
        }
        workgroupBarrier();
    }
    // What is left of the last span, or zeros.
    total = add_spans(total, sums, row, col, first);
    store8(total.low, tile.above, row, col);
    if ONE_SPAN {
        store8(total.high, tile.above, row, col + 8u * ACROSS);
    }
}
