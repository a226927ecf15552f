// Integer products on the f16 matrix units of up to 64 rows of codes with one scale each: sums as in coop_rows.wgsl, but
// with few outputs to share out, threads share out the columns of the operands too. So there are as many workgroups as
// rows of weight can keep busy, and the weight is read once.
//
// A workgroup of 8 subgroups makes 64 x 32 outputs from four slices of 32 columns at a time: a subgroup 32 x 32 of a slice,
// as 2 x 2 matrices. What they have is added up at the end. A thread loads lines
// of 32 columns of the weight, three ahead, since there may be one workgroup a processor to keep memory busy; a step takes
// the first 16 columns of each line, the next the others: any order will do that both operands have. The importing
// shader has the bindings, `Line`, `fetch_line`, `stage_half`, `line_scale`, `inverse_of`, `largest_scale` and `factor_of`.
#import blocks
#import coop
#import halves
#import index
#import store_columns

const ROWS = 64u; // of the workgroup's tile
const COLS = 32u;
const SLICES = 4u;
const DEPTH = 32u; // columns of a slice
const ROUND = 2u * SLICES * DEPTH; // columns of two steps
const PITCH = 10u; // vec4s from a row of a tile to the next: 8, padded against bank conflicts
const X_LINES = ROWS + 2u; // of a slice in `tile_x`, padded likewise
const W_LINES = COLS + 2u;
const WG = 256u;
const SHARERS = WG / COLS; // threads of a row of the weight

// Slice by slice: [slice, row, column].
var<workgroup> tile_x: array<vec4<f16>, SLICES * X_LINES * PITCH>;
var<workgroup> tile_w: array<vec4<f16>, SLICES * W_LINES * PITCH>;
var<workgroup> sums: array<f32, 8u * 256u>; // a matrix of each subgroup; before, scales
var<workgroup> col_factors: array<f32, COLS>;

// Of every row of the weight in the tile, as `row_factor` has it, by 8 threads.
fn find_factors(thread: u32, col0: u32) {
    sums[thread] = largest_scale(col0 + thread / SHARERS, thread % SHARERS, SHARERS);
    workgroupBarrier();
    if thread < COLS {
        var most = sums[thread * SHARERS];
        for (var i = 1u; i < SHARERS; i++) {
            most = max(most, sums[thread * SHARERS + i]);
        }
        col_factors[thread] = factor_of(most);
    }
    workgroupBarrier();
}

// 16 codes, beyond the last column any.
fn raw_codes(row: u32, col: u32) -> vec4<u32> {
    return codes[min(row, params.m - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
}

// Matrices (i, j) of all subgroups, added up over the slices and stored: behind a barrier, and before the next.
fn finish(thread: u32, row0: u32, col0: u32, i: u32, j: u32) {
    let x_groups = (params.k + params.x_group - 1u) / params.x_group; // 1
    for (var half = 0u; half < 2u; half++) {
        let at = half * SLICES * 256u + thread;
        let y = (sums[at] + sums[at + 256u]) + (sums[at + 512u] + sums[at + 768u]);
        let row = row0 + 16u * i + thread / 16u + 32u * half;
        let local_col = thread % 16u + 16u * j;
        if row < params.m && col0 + local_col < params.n {
            store_at(row, col0 + local_col, y * (scales[row * x_groups] * col_factors[local_col]));
        }
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    let index = linear_workgroup(workgroup, grid);
    let tile_rows = (params.m + ROWS - 1u) / ROWS;
    let row0 = index % tile_rows * ROWS;
    let col0 = index / tile_rows * COLS;
    if col0 >= params.n {
        return;
    }
    let warp = warp_of(place);
    let slice = warp % SLICES;
    let half = warp / SLICES;
    // Eight threads load a row of a round: a line each.
    let thread = place.thread;
    let line = thread / 8u;
    let part = thread % 8u;
    let first = 32u * part;
    let x_line = part / 2u * X_LINES + line;
    let w_line = part / 2u * W_LINES + line;
    var x0 = raw_codes(row0 + line, first);
    var x1 = raw_codes(row0 + line + 32u, first);
    var w0 = fetch_line(col0 + line, first);
    var w1 = fetch_line(col0 + line, first + ROUND);
    var w2 = fetch_line(col0 + line, first + 2u * ROUND);
    find_factors(thread, col0);
    let inverse = inverse_of(col_factors[line]);

    var c00 = Sum();
    var c01 = Sum();
    var c10 = Sum();
    var c11 = Sum();
    var scale = line_scale(col0 + line, first);
    var next_scale = line_scale(col0 + line, first + ROUND);
    var at = first;
    let a = (slice * X_LINES + 32u * half) * PITCH;
    let b = slice * W_LINES * PITCH;
    let rounds = (params.k + ROUND - 1u) / ROUND;
    for (var k = 0u; k < rounds * ROUND; k += ROUND / 2u) {
        // Zeros beyond the last column. Not as they are loaded, which would wait for them there.
        let second = k % ROUND > 0u;
        stage_codes(x_line, part % 2u, select(vec4(0u), x0, at < params.k));
        stage_codes(x_line + 32u, part % 2u, select(vec4(0u), x1, at < params.k));
        stage_half(w_line, part % 2u, w0, second, scale * inverse);
        workgroupBarrier();
        // The next words come while the matrices are multiplied.
        at += 16u;
        if second {
            at += ROUND - 32u;
            w0 = w1;
            w1 = w2;
            w2 = fetch_line(col0 + line, at + 2u * ROUND);
            scale = next_scale;
            next_scale = line_scale(col0 + line, at + ROUND);
        }
        x0 = raw_codes(row0 + line, at);
        x1 = raw_codes(row0 + line + 32u, at);
        let b0 = right(b);
        let b1 = right(b + 4u);
        let a00 = left(a);
        let a01 = left(a + 4u);
        let a10 = left(a + 16u * PITCH);
        let a11 = left(a + 16u * PITCH + 4u);
        c00 = multiply_add(a00, b0, c00);
        c10 = multiply_add(a10, b0, c10);
        c00 = multiply_add(a01, b1, c00);
        c10 = multiply_add(a11, b1, c10);
        let d0 = right(b + 16u * PITCH);
        let d1 = right(b + 16u * PITCH + 4u);
        c01 = multiply_add(a00, d0, c01);
        c11 = multiply_add(a10, d0, c11);
        c01 = multiply_add(a01, d1, c01);
        c11 = multiply_add(a11, d1, c11);
        workgroupBarrier();
    }
    let region = warp * 256u;
    put_sum(c00, region);
    workgroupBarrier();
    finish(thread, row0, col0, 0u, 0u);
    workgroupBarrier();
    put_sum(c10, region);
    workgroupBarrier();
    finish(thread, row0, col0, 1u, 0u);
    workgroupBarrier();
    put_sum(c01, region);
    workgroupBarrier();
    finish(thread, row0, col0, 0u, 1u);
    workgroupBarrier();
    put_sum(c11, region);
    workgroupBarrier();
    finish(thread, row0, col0, 1u, 1u);
}
