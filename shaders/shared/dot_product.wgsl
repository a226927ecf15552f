// Integer products from tiles in workgroup memory, for shapes in blocks: 64 x 128 outputs a workgroup, 8 x 8 a thread, 64
// columns of the operands at a time, of which four threads load a row. A thread takes 16 codes of its rows and columns at
// once from the tiles. Its columns are 16 apart, so that neighbouring threads store neighbouring outputs.
//
// The importing shader has the bindings, `fetch_weight`, 16 codes of a row, and `stage_weight`, which makes them int8,
// `finished`, which makes exact sums of what these give, and `const ONE_SPAN`: is a row one span of the scales? Else there
// are f32 sums beside those of the span, for which a thread has fewer registers.
#import blocks
#import dot
#import index
#import store_columns

const ROWS = 64u; // of the workgroup's tile
const COLS = 128u;
const ACROSS = 16u; // threads along the columns
const DOWN = 8u; // and along the rows
const DEPTH = 64u; // columns of the operands at a time
const PITCH = 5u; // vec4s from a row of a tile to the next: 4, padded against bank conflicts
const APART = 32u; // rows from one that a thread loads to its next

var<workgroup> tile_x: array<vec4<u32>, ROWS * PITCH>;
var<workgroup> tile_w: array<vec4<u32>, COLS * PITCH>;

// 16 codes of each row of a thread.
struct Rows {
    x0: vec4<u32>,
    x1: vec4<u32>,
    x2: vec4<u32>,
    x3: vec4<u32>,
    x4: vec4<u32>,
    x5: vec4<u32>,
    x6: vec4<u32>,
    x7: vec4<u32>,
}

// Sums of a column of a thread, over a span: rows 0 to 3 and 4 to 7.
struct Sums {
    low: vec4<i32>,
    high: vec4<i32>,
}

// Over all spans, scaled.
struct Total {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn dot16(x: vec4<u32>, w: vec4<u32>) -> i32 {
    return dot_codes(x.x, w.x) + dot_codes(x.y, w.y) + dot_codes(x.z, w.z) + dot_codes(x.w, w.w);
}

fn rows_at(at: u32) -> Rows {
    return Rows(
        tile_x[at],
        tile_x[at + PITCH],
        tile_x[at + 2u * PITCH],
        tile_x[at + 3u * PITCH],
        tile_x[at + 4u * PITCH],
        tile_x[at + 5u * PITCH],
        tile_x[at + 6u * PITCH],
        tile_x[at + 7u * PITCH],
    );
}

fn add(sums: Sums, x: Rows, w: vec4<u32>) -> Sums {
    return Sums(
        sums.low + vec4(dot16(x.x0, w), dot16(x.x1, w), dot16(x.x2, w), dot16(x.x3, w)),
        sums.high + vec4(dot16(x.x4, w), dot16(x.x5, w), dot16(x.x6, w), dot16(x.x7, w)),
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

fn add_scaled(total: Total, sums: Sums, rows: Total, column: f32) -> Total {
    return Total(
        total.low + vec4<f32>(finished(sums.low)) * (rows.low * column),
        total.high + vec4<f32>(finished(sums.high)) * (rows.high * column),
    );
}

fn store_column(total: Total, row: u32, col: u32) {
    if col >= params.n {
        return;
    }
    store_if(total.low.x, row, col);
    store_if(total.low.y, row + 1u, col);
    store_if(total.low.z, row + 2u, col);
    store_if(total.low.w, row + 3u, col);
    store_if(total.high.x, row + 4u, col);
    store_if(total.high.y, row + 5u, col);
    store_if(total.high.z, row + 6u, col);
    store_if(total.high.w, row + 7u, col);
}

fn store_if(value: f32, row: u32, col: u32) {
    if row < params.m {
        store_at(row, col, value);
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: vec3<u32>) {
    // The host covers the outputs with tiles of 64 x 64; of these workgroups the first half does the work, going down the
    // tokens first, whose codes then stay in cache.
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
    let row = row0 + 8u * thread.y;
    let col = col0 + thread.x;
    let x_at = 8u * thread.y * PITCH;
    let w_at = thread.x * PITCH;
    let span = min(params.group, params.x_group);
    var left = span; // columns of the span to come
    var first = 0u; // of the span
    var s0 = Sums();
    var s1 = Sums();
    var s2 = Sums();
    var s3 = Sums();
    var s4 = Sums();
    var s5 = Sums();
    var s6 = Sums();
    var s7 = Sums();
    var t0 = Total();
    var t1 = Total();
    var t2 = Total();
    var t3 = Total();
    var t4 = Total();
    var t5 = Total();
    var t6 = Total();
    var t7 = Total();
    var next_x0 = fetch_codes(row0 + line, 16u * part);
    var next_x1 = fetch_codes(row0 + line + APART, 16u * part);
    var next_w0 = fetch_weight(col0 + line, 16u * part);
    var next_w1 = fetch_weight(col0 + line + APART, 16u * part);
    var next_w2 = fetch_weight(col0 + line + 2u * APART, 16u * part);
    var next_w3 = fetch_weight(col0 + line + 3u * APART, 16u * part);
    for (var k = 0u; k < params.k; k += DEPTH) {
        tile_x[to] = next_x0;
        tile_x[to + APART * PITCH] = next_x1;
        tile_w[to] = stage_weight(next_w0);
        tile_w[to + APART * PITCH] = stage_weight(next_w1);
        tile_w[to + 2u * APART * PITCH] = stage_weight(next_w2);
        tile_w[to + 3u * APART * PITCH] = stage_weight(next_w3);
        workgroupBarrier();
        // The next words come while these are multiplied.
        let ahead = k + DEPTH + 16u * part;
        next_x0 = fetch_codes(row0 + line, ahead);
        next_x1 = fetch_codes(row0 + line + APART, ahead);
        next_w0 = fetch_weight(col0 + line, ahead);
        next_w1 = fetch_weight(col0 + line + APART, ahead);
        next_w2 = fetch_weight(col0 + line + 2u * APART, ahead);
        next_w3 = fetch_weight(col0 + line + 3u * APART, ahead);
        for (var i = 0u; i < DEPTH / 16u; i++) {
            let x = rows_at(x_at + i);
            let w = w_at + i;
            s0 = add(s0, x, tile_w[w]);
            s1 = add(s1, x, tile_w[w + ACROSS * PITCH]);
            s2 = add(s2, x, tile_w[w + 2u * ACROSS * PITCH]);
            s3 = add(s3, x, tile_w[w + 3u * ACROSS * PITCH]);
            s4 = add(s4, x, tile_w[w + 4u * ACROSS * PITCH]);
            s5 = add(s5, x, tile_w[w + 5u * ACROSS * PITCH]);
            s6 = add(s6, x, tile_w[w + 6u * ACROSS * PITCH]);
            s7 = add(s7, x, tile_w[w + 7u * ACROSS * PITCH]);
            if ONE_SPAN {
                continue;
            }
            left -= 16u;
            // Beyond the last column codes are 0, and so are the sums of a span that is none.
            if left == 0u {
                let rows = Total(row_scales(row, first), row_scales(row + 4u, first));
                t0 = add_scaled(t0, s0, rows, column_scale(col, first));
                t1 = add_scaled(t1, s1, rows, column_scale(col + ACROSS, first));
                t2 = add_scaled(t2, s2, rows, column_scale(col + 2u * ACROSS, first));
                t3 = add_scaled(t3, s3, rows, column_scale(col + 3u * ACROSS, first));
                t4 = add_scaled(t4, s4, rows, column_scale(col + 4u * ACROSS, first));
                t5 = add_scaled(t5, s5, rows, column_scale(col + 5u * ACROSS, first));
                t6 = add_scaled(t6, s6, rows, column_scale(col + 6u * ACROSS, first));
                t7 = add_scaled(t7, s7, rows, column_scale(col + 7u * ACROSS, first));
                s0 = Sums();
                s1 = Sums();
                s2 = Sums();
                s3 = Sums();
                s4 = Sums();
                s5 = Sums();
                s6 = Sums();
                s7 = Sums();
                first = min(first + span, params.k - 1u);
                left = span;
            }
        }
        workgroupBarrier();
    }
    // What is left of the last span, or zeros.
    let rows = Total(row_scales(row, first), row_scales(row + 4u, first));
    t0 = add_scaled(t0, s0, rows, column_scale(col, first));
    t1 = add_scaled(t1, s1, rows, column_scale(col + ACROSS, first));
    t2 = add_scaled(t2, s2, rows, column_scale(col + 2u * ACROSS, first));
    t3 = add_scaled(t3, s3, rows, column_scale(col + 3u * ACROSS, first));
    t4 = add_scaled(t4, s4, rows, column_scale(col + 4u * ACROSS, first));
    t5 = add_scaled(t5, s5, rows, column_scale(col + 5u * ACROSS, first));
    t6 = add_scaled(t6, s6, rows, column_scale(col + 6u * ACROSS, first));
    t7 = add_scaled(t7, s7, rows, column_scale(col + 7u * ACROSS, first));
    store_column(t0, row, col);
    store_column(t1, row, col + ACROSS);
    store_column(t2, row, col + 2u * ACROSS);
    store_column(t3, row, col + 3u * ACROSS);
    store_column(t4, row, col + 4u * ACROSS);
    store_column(t5, row, col + 5u * ACROSS);
    store_column(t6, row, col + 6u * ACROSS);
    store_column(t7, row, col + 7u * ACROSS);
}
