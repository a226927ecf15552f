// Integer products on the f16 matrix units, for shapes in blocks (`kernels::scaled`). Codes are exact in f16, their
// products and the sums over up to 1024 columns exact in f32; at the end of such a block, or of a smaller span of the
// scales, the sums go through workgroup memory, are scaled, and are added up in f32 registers.
//
// A workgroup of 4 subgroups makes 128 x 64 outputs, a subgroup 64 x 32 as 4 x 2 matrices. The importing shader has the
// bindings, `fetch_weight` and `stage_weight`.
#import blocks
#import coop_tiles
#import halves
#import slices
#import store_columns
#import weight_scale

const ROWS = 128u; // of the workgroup's tile
const COLS = 64u;
const DEPTH = 32u; // columns of the operands at a time
const PITCH = 10u; // vec4s from a row of a tile to the next: 8, padded against bank conflicts
const PITCH_X = PITCH;
const PITCH_W = PITCH;
const SUM_PITCH = 4u;
const BLOCK = 1024u; // columns whose sum is exact: 1024 * 128 * 128 = 2^24
const WG = 128u;

var<workgroup> tile_x: array<vec4<f16>, ROWS * PITCH>;
var<workgroup> tile_w: array<vec4<f16>, COLS * PITCH>;
// 16 x 32 sums of each subgroup, twice: one is read while the other is written.
var<workgroup> sums: array<vec4<f32>, 2u * 4u * 128u>;
var<workgroup> row_scales: array<f32, ROWS>;
var<workgroup> col_scales: array<f32, COLS>;

// Where the thread's outputs are: rows row, row + 2, ... of each matrix, one column of each.
struct Corner {
    row: u32,
    col: u32,
    region: u32, // of `sums`
    local_row: u32, // in the tile
    local_col: u32,
}

// Eight outputs of a matrix: those of rows 0, 2, 4, 6 and 8, 10, 12, 14 from the thread's.
alias Part = mat2x4<f32>;

// Scales of the span that column `first` is in, of every row and column of the tile.
fn stage_scales(thread: u32, row: u32, col: u32, first: u32) {
    let x_groups = (params.k + params.x_group - 1u) / params.x_group;
    row_scales[thread] = scales[min(row + thread, params.m - 1u) * x_groups + first / params.x_group];
    if thread < COLS {
        let groups = (params.k + params.group - 1u) / params.group;
        col_scales[thread] = one_scale(min(col + thread, params.n - 1u), groups, first / params.group);
    }
}

// Two matrices of row `i` of the subgroup's, for `scaled` behind a barrier.
fn put(corner: Corner, i: u32, c0: Sum, c1: Sum) {
    let at = corner.region + (i % 2u) * 512u;
    put_sum(c0, at);
    put_sum(c1, at + 64u);
}

// The thread's part of matrix `j` of row `i`, times its scales.
fn scaled(corner: Corner, lane: u32, i: u32, j: u32) -> Part {
    let at = corner.region + (i % 2u) * 512u + j * 64u + lane / 4u;
    let c = lane % 4u;
    let row = corner.local_row + 16u * i;
    let col = col_scales[corner.local_col + 16u * j];
    let low = vec4(sums[at][c], sums[at + 8u][c], sums[at + 16u][c], sums[at + 24u][c]);
    let high = vec4(sums[at + 32u][c], sums[at + 40u][c], sums[at + 48u][c], sums[at + 56u][c]);
    let low_scale = vec4(row_scales[row], row_scales[row + 2u], row_scales[row + 4u], row_scales[row + 6u]);
    let high_scale = vec4(row_scales[row + 8u], row_scales[row + 10u], row_scales[row + 12u], row_scales[row + 14u]);
    return Part(low * (low_scale * col), high * (high_scale * col));
}

fn store_part(corner: Corner, i: u32, j: u32, part: Part) {
    let row = corner.row + 16u * i;
    let col = corner.col + 16u * j;
    if col < params.n {
        store_four(part[0], row, col);
        store_four(part[1], row + 8u, col);
    }
}

fn store_four(values: vec4<f32>, row: u32, col: u32) {
    store_if(values.x, row, col);
    store_if(values.y, row + 2u, col);
    store_if(values.z, row + 4u, col);
    store_if(values.w, row + 6u, col);
}

fn store_if(value: f32, row: u32, col: u32) {
    if row < params.m {
        store_at(row, col, value);
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    // The host covers the outputs with tiles of 64 x 64; of these workgroups the first ones do the work.
    let tile = tile_of(workgroup, grid, ROWS, COLS);
    let row0 = tile.row;
    let col0 = tile.col;
    if col0 >= params.n {
        return;
    }
    let warp = warp_of(place);
    let lane = lane_of(place);
    let row = row0 + place.thread / 2u;
    let col = col0 + place.thread / 2u;
    let half = place.thread % 2u;
    let local_row = warp / 2u * 64u;
    let local_col = warp % 2u * 32u;
    let thread_row = local_row + lane / 16u;
    let thread_col = local_col + lane % 16u;
    let corner = Corner(row0 + thread_row, col0 + thread_col, warp * 128u, thread_row, thread_col);

    let block = min(min(params.group, params.x_group), BLOCK);
    var t00 = Part();
    var t01 = Part();
    var t10 = Part();
    var t11 = Part();
    var t20 = Part();
    var t21 = Part();
    var t30 = Part();
    var t31 = Part();
    var x0 = fetch_codes(row, 16u * half);
    var x1 = fetch_codes(row + 64u, 16u * half);
    var w = fetch_weight(col, 16u * half);
    for (var first = 0u; first < params.k; first += block) {
        var c00 = Sum();
        var c01 = Sum();
        var c10 = Sum();
        var c11 = Sum();
        var c20 = Sum();
        var c21 = Sum();
        var c30 = Sum();
        var c31 = Sum();
        for (var k = first; k < min(first + block, params.k); k += DEPTH) {
            stage_codes(place.thread / 2u, half, x0);
            stage_codes(place.thread / 2u + 64u, half, x1);
            stage_weight(place.thread / 2u, half, w);
            workgroupBarrier();
            // The next words come while the matrices are multiplied.
            x0 = fetch_codes(row, k + DEPTH + 16u * half);
            x1 = fetch_codes(row + 64u, k + DEPTH + 16u * half);
            w = fetch_weight(col, k + DEPTH + 16u * half);
            for (var step = 0u; step < DEPTH / 4u; step += 4u) {
                let a = local_row * PITCH + step;
                let b = local_col * PITCH + step;
                let b0 = right(b);
                let b1 = right(b + 16u * PITCH);
                let a0 = left(a);
                c00 = multiply_add(a0, b0, c00);
                c01 = multiply_add(a0, b1, c01);
                let a1 = left(a + 16u * PITCH);
                c10 = multiply_add(a1, b0, c10);
                c11 = multiply_add(a1, b1, c11);
                let a2 = left(a + 32u * PITCH);
                c20 = multiply_add(a2, b0, c20);
                c21 = multiply_add(a2, b1, c21);
                let a3 = left(a + 48u * PITCH);
                c30 = multiply_add(a3, b0, c30);
                c31 = multiply_add(a3, b1, c31);
            }
            workgroupBarrier();
        }
        stage_scales(place.thread, row0, col0, first);
        put(corner, 0u, c00, c01);
        workgroupBarrier();
        t00 += scaled(corner, lane, 0u, 0u);
        t01 += scaled(corner, lane, 0u, 1u);
        put(corner, 1u, c10, c11);
        workgroupBarrier();
        t10 += scaled(corner, lane, 1u, 0u);
        t11 += scaled(corner, lane, 1u, 1u);
        put(corner, 2u, c20, c21);
        workgroupBarrier();
        t20 += scaled(corner, lane, 2u, 0u);
        t21 += scaled(corner, lane, 2u, 1u);
        put(corner, 3u, c30, c31);
        workgroupBarrier();
        t30 += scaled(corner, lane, 3u, 0u);
        t31 += scaled(corner, lane, 3u, 1u);
    }
    store_part(corner, 0u, 0u, t00);
    store_part(corner, 0u, 1u, t01);
    store_part(corner, 1u, 0u, t10);
    store_part(corner, 1u, 1u, t11);
    store_part(corner, 2u, 0u, t20);
    store_part(corner, 2u, 1u, t21);
    store_part(corner, 3u, 0u, t30);
    store_part(corner, 3u, 1u, t31);
}
