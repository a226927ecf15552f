// Integer products from tiles in workgroup memory, for shapes in blocks: 64 x 128 outputs a workgroup, 4 x 16 a thread, 64
// columns of the operands at a time, of which four threads load a row; half as many columns where `const SLIM`, so that twice as many
// workgroups share a core. A thread takes 16 codes of its rows and columns at
// once from the tiles. Its columns are 8 apart, so that neighbouring threads store neighbouring outputs.
//
// The importing shader has the bindings, `fetch_weight`, 16 codes of a row, and `stage_weight`, which makes them int8,
// `const UNIT`, what one of these stands for, `const ONE_SCALE`: has a row of the tokens one scale? and `const ONE_SPAN`: have the
// weight's rows, too? Else there are f32 sums beside those of a span, for which a thread has fewer registers. A span's sums are then
// the last bits of f32 numbers near 1.5 * 2^23, of which a difference makes f32: an H100 converts a quarter as many integers as it
// adds numbers. So sums end after 256 columns.
//
// What makes it fast on NVIDIA's compiler: loads without a choice behind them, which would be waited for at once (zeros beyond the
// last column come when codes are staged); the four steps of a tile written out; and sums word by word over all rows.
#import blocks
#import dot
#import index
#import store_columns

const ROWS = 64u; // of the workgroup's tile
const COLS = select(128u, 64u, SLIM);
const ACROSS = 8u; // threads along the columns
const DOWN = 16u; // and along the rows
const DEPTH = 64u; // columns of the operands at a time
const PITCH = 5u; // vec4s from a row of a tile to the next: 4, padded against bank conflicts
const APART = 32u; // rows from one that a thread loads to its next
const MOST = 256u; // columns of a sum: 128 * 128 * 256 = 2^22
const START = select(0x4b400000, 0, ONE_SPAN); // the bits of 1.5 * 2^23

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

fn column_scale(col: u32, first: u32) -> f32 {
    let groups = (params.k + params.group - 1u) / params.group;
    return weight_scales[min(col, params.n - 1u) * groups + first / params.group];
}

fn numbers(sums: vec4<i32>) -> vec4<f32> {
    if ONE_SPAN {
        return vec4<f32>(sums);
    }
    return bitcast<vec4<f32>>(sums) - vec4(12582912.0);
}

fn scaled(sums: vec4<i32>, rows: vec4<f32>, col: u32, first: u32) -> vec4<f32> {
    return numbers(sums) * (rows * column_scale(col, first));
}

fn no_sums() -> Sums {
    let v = vec4(START);
    return Sums(v, v, v, v, v, v, v, v);
}

// With the sums of a span in the groups of column `first`, but for a scale that is the row's only one.
fn add_scaled(total: Total, sums: Sums, row: u32, col: u32, first: u32) -> Total {
    var rows = vec4(UNIT);
    if !ONE_SCALE {
        rows *= row_scales(row, first);
    }
    return Total(
        total.c0 + scaled(sums.c0, rows, col, first),
        total.c1 + scaled(sums.c1, rows, col + ACROSS, first),
        total.c2 + scaled(sums.c2, rows, col + 2u * ACROSS, first),
        total.c3 + scaled(sums.c3, rows, col + 3u * ACROSS, first),
        total.c4 + scaled(sums.c4, rows, col + 4u * ACROSS, first),
        total.c5 + scaled(sums.c5, rows, col + 5u * ACROSS, first),
        total.c6 + scaled(sums.c6, rows, col + 6u * ACROSS, first),
        total.c7 + scaled(sums.c7, rows, col + 7u * ACROSS, first),
    );
}

// Columns from `first` on whose sums are one.
fn columns_from(first: u32) -> u32 {
    let span = min(params.group, params.x_group);
    return min(MOST, span - first % span);
}

fn store_column(column: vec4<f32>, row: u32, col: u32) {
    if col >= params.n {
        return;
    }
    store_if(column.x, row, col);
    store_if(column.y, row + 1u, col);
    store_if(column.z, row + 2u, col);
    store_if(column.w, row + 3u, col);
}

// 8 columns of four rows.
fn store8(total: Total, row: u32, col: u32) {
    var rows = vec4(1.0);
    if ONE_SCALE {
        rows = row_scales(row, 0u);
    }
    store_column(rows * total.c0, row, col);
    store_column(rows * total.c1, row, col + ACROSS);
    store_column(rows * total.c2, row, col + 2u * ACROSS);
    store_column(rows * total.c3, row, col + 3u * ACROSS);
    store_column(rows * total.c4, row, col + 4u * ACROSS);
    store_column(rows * total.c5, row, col + 5u * ACROSS);
    store_column(rows * total.c6, row, col + 6u * ACROSS);
    store_column(rows * total.c7, row, col + 7u * ACROSS);
}

fn store_if(value: f32, row: u32, col: u32) {
    if row < params.m {
        store_at(row, col, value);
    }
}

// All sums of a thread.
struct All {
    low: Sums,
    high: Sums, // not where SLIM
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
    if SLIM {
        return All(low, sums.high);
    }
    return All(low, add8(sums.high, x, w + 8u * ACROSS * PITCH));
}

fn add_spans(total: Totals, sums: All, row: u32, col: u32, first: u32) -> Totals {
    let low = add_scaled(total.low, sums.low, row, col, first);
    if SLIM {
        return Totals(low, total.high);
    }
    return Totals(low, add_scaled(total.high, sums.high, row, col + 8u * ACROSS, first));
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: vec3<u32>) {
    // The host covers the outputs with tiles of 64 x 64; of twice as wide ones the first half of the workgroups do the work. They go
    // down the tokens first, whose codes then stay in cache.
    let index = linear_workgroup(workgroup, grid);
    let tile_rows = (params.m + ROWS - 1u) / ROWS;
    let row0 = index % tile_rows * ROWS;
    let col0 = index / tile_rows * COLS;
    if col0 >= params.n {
        return;
    }
    let own = thread.y * ACROSS + thread.x;
    let line = own / 4u;
    let part = own % 4u;
    let to = line * PITCH + part;
    let row = row0 + 4u * thread.y;
    let col = col0 + thread.x;
    var first = 0u; // of the sums' columns
    var left = columns_from(first); // of them to come
    var sums = All(no_sums(), no_sums());
    var total = Totals();
    var next_x0 = raw_codes(row0 + line, 16u * part);
    var next_x1 = raw_codes(row0 + line + APART, 16u * part);
    var next_w0 = fetch_weight(col0 + line, 16u * part);
    var next_w1 = fetch_weight(col0 + line + APART, 16u * part);
    var next_w2 = fetch_weight(col0 + line + 2u * APART, 16u * part);
    var next_w3 = fetch_weight(col0 + line + 3u * APART, 16u * part);
    for (var k = 0u; k < params.k; k += DEPTH) {
        let inside = vec4(select(0u, ~0u, k + 16u * part < params.k));
        tile_x[to] = next_x0 & inside;
        tile_x[to + APART * PITCH] = next_x1 & inside;
        tile_w[to] = stage_weight(next_w0);
        tile_w[to + APART * PITCH] = stage_weight(next_w1);
        if !SLIM {
            tile_w[to + 2u * APART * PITCH] = stage_weight(next_w2);
            tile_w[to + 3u * APART * PITCH] = stage_weight(next_w3);
        }
        workgroupBarrier();
        // The next words come while these are multiplied.
        let ahead = k + DEPTH + 16u * part;
        next_x0 = raw_codes(row0 + line, ahead);
        next_x1 = raw_codes(row0 + line + APART, ahead);
        next_w0 = fetch_weight(col0 + line, ahead);
        next_w1 = fetch_weight(col0 + line + APART, ahead);
        if !SLIM {
            next_w2 = fetch_weight(col0 + line + 2u * APART, ahead);
            next_w3 = fetch_weight(col0 + line + 3u * APART, ahead);
        }
        // Spans end after whole 32 columns, or with the row, where what is left of them is none of these multiples.
        sums = multiply(sums, thread, 0u);
        sums = multiply(sums, thread, 1u);
        left -= 32u;
        if !ONE_SPAN && left == 0u {
            total = add_spans(total, sums, row, col, first);
            sums = All(no_sums(), no_sums());
            first = min(first + columns_from(first), params.k - 1u);
            left = columns_from(first);
        }
        sums = multiply(sums, thread, 2u);
        sums = multiply(sums, thread, 3u);
        left -= 32u;
        if !ONE_SPAN && left == 0u {
            total = add_spans(total, sums, row, col, first);
            sums = All(no_sums(), no_sums());
            first = min(first + columns_from(first), params.k - 1u);
            left = columns_from(first);
        }
        workgroupBarrier();
    }
    // What is left, or zeros.
    total = add_spans(total, sums, row, col, first);
    store8(total.low, row, col);
    if !SLIM {
        store8(total.high, row, col + 8u * ACROSS);
    }
}
