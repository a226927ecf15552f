// Integer products from tiles in workgroup memory, for shapes in blocks: 64 x 64 outputs a workgroup, 8 x 8 a thread
// (shared/tile.wgsl), 32 columns of the operands at a time. The importing shader has the bindings, `fetch_weight`,
// `stage_weight`, and `finished`, which makes exact sums of what the staged words give.
#import blocks
#import index
#import int_block
#import int_scales
#import tile

const DEPTH = 32u; // columns at a time
const PITCH = 17u; // vec4s from a word of the columns to the next: 16, padded against bank conflicts

var<workgroup> tile_x: array<vec4<u32>, DEPTH / 4u * PITCH>; // [word, row / 4]
// [word, column / 4] with the 8 columns of a thread, 8 apart, beside each other.
var<workgroup> tile_w: array<vec4<u32>, DEPTH / 4u * PITCH>;

fn put_codes(row: u32, word: u32, value: u32) {
    tile_x[word * PITCH + row / 4u][row % 4u] = value;
}

fn put_weight(col: u32, word: u32, value: u32) {
    let at = col % SIDE * 8u + col / SIDE;
    tile_w[word * PITCH + at / 4u][at % 4u] = value;
}

fn stage_codes(row: u32, half: u32, words: vec4<u32>) {
    put_codes(row, 4u * half, words.x);
    put_codes(row, 4u * half + 1u, words.y);
    put_codes(row, 4u * half + 2u, words.z);
    put_codes(row, 4u * half + 3u, words.w);
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: vec3<u32>) {
    // Down the tokens first, whose codes then stay in cache.
    let index = linear_workgroup(workgroup, grid);
    let tile = vec3(index / grid.y, index % grid.y, 0u);
    let at = corner(tile, thread);
    let own = thread.y * SIDE + thread.x;
    let half = own % 2u;
    let row = tile.y * 8u * SIDE + own / 2u;
    let col = tile.x * 8u * SIDE + own / 2u;
    let span = min(params.group, params.x_group);
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    var next_x0 = fetch_codes(row, 16u * half);
    var next_x1 = fetch_codes(row + 32u, 16u * half);
    var next_w0 = fetch_weight(col, 16u * half);
    var next_w1 = fetch_weight(col + 32u, 16u * half);
    for (var first = 0u; first < params.k; first += span) {
        var s00 = Sums();
        var s01 = Sums();
        var s10 = Sums();
        var s11 = Sums();
        for (var k = first; k < min(first + span, params.k); k += DEPTH) {
            stage_codes(own / 2u, half, next_x0);
            stage_codes(own / 2u + 32u, half, next_x1);
            stage_weight(own / 2u, half, next_w0);
            stage_weight(own / 2u + 32u, half, next_w1);
            workgroupBarrier();
            // The next words come while these are multiplied.
            next_x0 = fetch_codes(row, k + DEPTH + 16u * half);
            next_x1 = fetch_codes(row + 32u, k + DEPTH + 16u * half);
            next_w0 = fetch_weight(col, k + DEPTH + 16u * half);
            next_w1 = fetch_weight(col + 32u, k + DEPTH + 16u * half);
            for (var word = 0u; word < DEPTH / 4u; word++) {
                let x0 = tile_x[word * PITCH + 2u * thread.y];
                let x1 = tile_x[word * PITCH + 2u * thread.y + 1u];
                let w0 = tile_w[word * PITCH + 2u * thread.x];
                let w1 = tile_w[word * PITCH + 2u * thread.x + 1u];
                s00 = multiply_add(s00, x0, w0);
                s01 = multiply_add(s01, x0, w1);
                s10 = multiply_add(s10, x1, w0);
                s11 = multiply_add(s11, x1, w1);
            }
            workgroupBarrier();
        }
        let token0 = row_scales(at.row, first);
        let token1 = row_scales(at.row + 4u, first);
        let scale0 = column_scales(at.col, first);
        let scale1 = column_scales(at.col + BLOCK, first);
        a00 = add_scaled(a00, finished(s00), token0, scale0);
        a01 = add_scaled(a01, finished(s01), token0, scale1);
        a10 = add_scaled(a10, finished(s10), token1, scale0);
        a11 = add_scaled(a11, finished(s11), token1, scale1);
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
