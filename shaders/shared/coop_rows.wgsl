// Integer products on the f16 matrix units where each token has one scale, so that no sum is scaled before its end. A
// code, or an int4 code times its group's scale over a power of two, is exact in f16, and the sums are f32: exact up to
// 2^24, which codes of both signs hardly reach, and rounded beyond as any f32 sum.
//
// A workgroup of 8 subgroups makes 256 x 128 outputs, a subgroup 64 x 64 as 4 x 4 matrices. The importing shader has
// the bindings, `fetch_weight`, `stage_weight` and `row_factor`.
#import blocks
#import coop
#import halves
#import index
#import store_columns

const ROWS = 256u; // of the workgroup's tile
const COLS = 128u;
const DEPTH = 32u; // columns of the operands at a time
const PITCH = 10u; // vec4s from a row of a tile to the next: 8, padded against bank conflicts
const WG = 256u;

var<workgroup> tile_x: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> tile_w: array<vec4<f16>, COLS * PITCH>;
var<workgroup> sums: array<f32, 8u * 256u>; // a matrix of each subgroup
var<workgroup> col_factors: array<f32, COLS>;

// Stores the thread's part of the matrix whose corner is (row, col) of the output: rows row, row + 2, .., one column.
fn finish(at: u32, row: u32, col: u32, col_factor: f32) {
    let x_groups = (params.k + params.x_group - 1u) / params.x_group; // 1
    for (var e = 0u; e < 8u; e++) {
        let r = row + 2u * e;
        if r < params.m && col < params.n {
            store_at(r, col, sums[at + 32u * e] * (scales[r * x_groups] * col_factor));
        }
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    // The host covers the outputs with tiles of 64 x 64; of these workgroups the first ones do the work, going down
    // the tokens first, whose codes then stay in cache.
    let index = linear_workgroup(workgroup, grid);
    let tile_rows = (params.m + ROWS - 1u) / ROWS;
    let row0 = index % tile_rows * ROWS;
    let col0 = index / tile_rows * COLS;
    if col0 >= params.n {
        return;
    }
    let warp = warp_of(place);
    let lane = lane_of(place);
    let line = place.thread / 2u;
    let half = place.thread % 2u;
    let local_row = warp / 2u * 64u;
    let local_col = warp % 2u * 64u;
    let factor = row_factor(col0 + line);
    if half == 0u {
        col_factors[line] = factor;
    }
    var c00 = Sum();
    var c01 = Sum();
    var c02 = Sum();
    var c03 = Sum();
    var c10 = Sum();
    var c11 = Sum();
    var c12 = Sum();
    var c13 = Sum();
    var c20 = Sum();
    var c21 = Sum();
    var c22 = Sum();
    var c23 = Sum();
    var c30 = Sum();
    var c31 = Sum();
    var c32 = Sum();
    var c33 = Sum();
    var x0 = fetch_codes(row0 + line, 16u * half);
    var x1 = fetch_codes(row0 + line + 128u, 16u * half);
    var w = fetch_weight(col0 + line, 16u * half, factor);
    for (var k = 0u; k < params.k; k += DEPTH) {
        stage_codes(line, half, x0);
        stage_codes(line + 128u, half, x1);
        stage_weight(line, half, w);
        workgroupBarrier();
        // The next words come while the matrices are multiplied.
        x0 = fetch_codes(row0 + line, k + DEPTH + 16u * half);
        x1 = fetch_codes(row0 + line + 128u, k + DEPTH + 16u * half);
        w = fetch_weight(col0 + line, k + DEPTH + 16u * half, factor);
        let a = local_row * PITCH;
        let b = local_col * PITCH;
        // Two steps of 16 columns, written out: as a loop they cost a tenth more.
        let b00 = right(b);
        let b10 = right(b + 16u * PITCH);
        let b20 = right(b + 32u * PITCH);
        let b30 = right(b + 48u * PITCH);
        let a00 = left(a);
        c00 = multiply_add(a00, b00, c00);
        c01 = multiply_add(a00, b10, c01);
        c02 = multiply_add(a00, b20, c02);
        c03 = multiply_add(a00, b30, c03);
        let a10 = left(a + 16u * PITCH);
        c10 = multiply_add(a10, b00, c10);
        c11 = multiply_add(a10, b10, c11);
        c12 = multiply_add(a10, b20, c12);
        c13 = multiply_add(a10, b30, c13);
        let a20 = left(a + 32u * PITCH);
        c20 = multiply_add(a20, b00, c20);
        c21 = multiply_add(a20, b10, c21);
        c22 = multiply_add(a20, b20, c22);
        c23 = multiply_add(a20, b30, c23);
        let a30 = left(a + 48u * PITCH);
        c30 = multiply_add(a30, b00, c30);
        c31 = multiply_add(a30, b10, c31);
        c32 = multiply_add(a30, b20, c32);
        c33 = multiply_add(a30, b30, c33);
        let b01 = right(b + 4u);
        let b11 = right(b + 16u * PITCH + 4u);
        let b21 = right(b + 32u * PITCH + 4u);
        let b31 = right(b + 48u * PITCH + 4u);
        let a01 = left(a + 4u);
        c00 = multiply_add(a01, b01, c00);
        c01 = multiply_add(a01, b11, c01);
        c02 = multiply_add(a01, b21, c02);
        c03 = multiply_add(a01, b31, c03);
        let a11 = left(a + 16u * PITCH + 4u);
        c10 = multiply_add(a11, b01, c10);
        c11 = multiply_add(a11, b11, c11);
        c12 = multiply_add(a11, b21, c12);
        c13 = multiply_add(a11, b31, c13);
        let a21 = left(a + 32u * PITCH + 4u);
        c20 = multiply_add(a21, b01, c20);
        c21 = multiply_add(a21, b11, c21);
        c22 = multiply_add(a21, b21, c22);
        c23 = multiply_add(a21, b31, c23);
        let a31 = left(a + 48u * PITCH + 4u);
        c30 = multiply_add(a31, b01, c30);
        c31 = multiply_add(a31, b11, c31);
        c32 = multiply_add(a31, b21, c32);
        c33 = multiply_add(a31, b31, c33);
        workgroupBarrier();
    }
    let region = warp * 256u;
    let row = row0 + local_row + lane / 16u;
    let thread_col = local_col + lane % 16u;
    let col = col0 + thread_col;
    put_sum(c00, region);
    workgroupBarrier();
    finish(region + lane, row, col, col_factors[thread_col]);
    workgroupBarrier();
    put_sum(c01, region);
    workgroupBarrier();
    finish(region + lane, row, col + 16u, col_factors[thread_col + 16u]);
    workgroupBarrier();
    put_sum(c02, region);
    workgroupBarrier();
    finish(region + lane, row, col + 32u, col_factors[thread_col + 32u]);
    workgroupBarrier();
    put_sum(c03, region);
    workgroupBarrier();
    finish(region + lane, row, col + 48u, col_factors[thread_col + 48u]);
    workgroupBarrier();
    put_sum(c10, region);
    workgroupBarrier();
    finish(region + lane, row + 16u, col, col_factors[thread_col]);
    workgroupBarrier();
    put_sum(c11, region);
    workgroupBarrier();
    finish(region + lane, row + 16u, col + 16u, col_factors[thread_col + 16u]);
    workgroupBarrier();
    put_sum(c12, region);
    workgroupBarrier();
    finish(region + lane, row + 16u, col + 32u, col_factors[thread_col + 32u]);
    workgroupBarrier();
    put_sum(c13, region);
    workgroupBarrier();
    finish(region + lane, row + 16u, col + 48u, col_factors[thread_col + 48u]);
    workgroupBarrier();
    put_sum(c20, region);
    workgroupBarrier();
    finish(region + lane, row + 32u, col, col_factors[thread_col]);
    workgroupBarrier();
    put_sum(c21, region);
    workgroupBarrier();
    finish(region + lane, row + 32u, col + 16u, col_factors[thread_col + 16u]);
    workgroupBarrier();
    put_sum(c22, region);
    workgroupBarrier();
    finish(region + lane, row + 32u, col + 32u, col_factors[thread_col + 32u]);
    workgroupBarrier();
    put_sum(c23, region);
    workgroupBarrier();
    finish(region + lane, row + 32u, col + 48u, col_factors[thread_col + 48u]);
    workgroupBarrier();
    put_sum(c30, region);
    workgroupBarrier();
    finish(region + lane, row + 48u, col, col_factors[thread_col]);
    workgroupBarrier();
    put_sum(c31, region);
    workgroupBarrier();
    finish(region + lane, row + 48u, col + 16u, col_factors[thread_col + 16u]);
    workgroupBarrier();
    put_sum(c32, region);
    workgroupBarrier();
    finish(region + lane, row + 48u, col + 32u, col_factors[thread_col + 32u]);
    workgroupBarrier();
    put_sum(c33, region);
    workgroupBarrier();
    finish(region + lane, row + 48u, col + 48u, col_factors[thread_col + 48u]);
    workgroupBarrier();
}
