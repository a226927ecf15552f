// Integer products on the f16 matrix units where no sum is scaled before its end. A code, or a code times its group's short
// scale over a power of two (row_factors.wgsl), is exact in f16, and the sums are f32: of codes alone exact up to 2^24, which
// codes of both signs hardly reach, and rounded beyond as any f32 sum. Of the format `groups` tokens have such scales, too.
//
// A workgroup of 8 subgroups makes 256 x 128 outputs, a subgroup 64 x 64 as 4 x 4 matrices. Threads load a round of 64
// columns at once, four threads a row: with 32 bytes of a row at a time instead of 64 an H100 spends a quarter of its time
// on loads. A step takes 4 of each thread's 16 columns, any order will do that both operands have, and is staged into one
// tile while the matrices of the other are multiplied. A round is loaded as soon as the one before is needed no more, but
// for its last step's words, which are kept; what is said of loads in shared/coop_wide.wgsl holds here, too.
//
// The importing shader has the bindings, `Line`, what is loaded of 16 columns of a row of the weight, `fetch_line`,
// `line_bits`, `Weights`, the same ready to be staged, `ready`, and `weights_of`, four of them; and imports row_factors.
#import coop_tiles
#import epilogue4
#import halves
#import mask
#import sixteen
#import slices

const ROWS = 256u; // of the workgroup's tile
const COLS = 128u;
const ROUND = 64u; // columns of the operands that are loaded at a time, a quarter of them in a tile
const PITCH = 6u; // vec4s from a row of a tile to the next: 4, padded against bank conflicts
const PITCH_X = PITCH;
const PITCH_W = PITCH;
const SUM_PITCH = 4u;
const X_TILE = ROWS * PITCH;
const W_TILE = COLS * PITCH;
const WG = 256u;
const APART = WG / 4u; // rows from one of a thread to its next

var<workgroup> tile_x: array<vec4<f16>, 2u * X_TILE>;
var<workgroup> tile_w: array<vec4<f16>, 2u * W_TILE>;
var<workgroup> sums: array<vec4<f32>, 8u * 64u>; // a matrix of each subgroup
var<workgroup> col_factors: array<vec4<f32>, COLS / 4u>;
var<workgroup> row_factors: array<f32, ROWS>;

// What a thread loads for a round: 16 columns of each of its rows.
struct Batch {
    x0: vec4<u32>,
    x1: vec4<u32>,
    x2: vec4<u32>,
    x3: vec4<u32>,
    w0: Line,
    w1: Line,
    scale: vec4<f32>, // of x0 to x3, of the format `groups`
}

// What it stages in a step: four codes of each row of `x`, and of its weights those of the step.
struct Step {
    x: vec4<u32>,
    scale: vec4<f32>, // over the rows' factors
    w0: Weights,
    w1: Weights,
}

// Beyond the last column any codes: there the weights are 0.
fn fetch_codes(row: u32, col: u32) -> vec4<u32> {
    return codes[min(row, params.m - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
}

#ifdef groups
// Of a row and every `APART`-th from there on.
fn scales_of(row: u32, which: u32) -> vec4<f32> {
    let low = vec2(token_scale(row, which), token_scale(row + APART, which));
    return vec4(low, token_scale(row + 2u * APART, which), token_scale(row + 3u * APART, which));
}

// The largest of groups first, first + 4, .. of whole rows: of the slice's columns alone took an H200 7 % longer, sliced or not.
fn largest_scales(row: u32, first: u32) -> vec4<f32> {
    var most = vec4(0.0);
    for (var g = first; g < (params.k + params.x_group - 1u) / params.x_group; g += 16u) {
        let near = max(scales_of(row, g), scales_of(row, g + 4u));
        most = max(most, max(near, max(scales_of(row, g + 8u), scales_of(row, g + 12u))));
    }
    return most;
}

#endif
// Of every row of the tile; a thread looks at a quarter of the groups of the rows of codes that it loads.
fn find_factors(tile: Tile, line: u32, part: u32, thread: u32) {
    if thread < COLS / 4u {
        col_factors[thread] = weight_factors(tile.col + 4u * thread);
    }
#ifdef groups
    sums[part * APART + line] = largest_scales(tile.row + line, part);
    workgroupBarrier();
    let own = thread % APART;
    let parts = max(max(sums[own], sums[APART + own]), max(sums[2u * APART + own], sums[3u * APART + own]));
    row_factors[thread] = factor_of(parts[thread / APART], params.x_group < params.k);
#else
    row_factors[thread] = scales[min(tile.row + thread, params.m - 1u)];
#endif
    workgroupBarrier();
}

// 1 / factor of a row of the tile and of every `APART`-th from there on.
fn inverses_of(row: u32) -> vec4<f32> {
#ifdef groups
    let several = params.x_group < params.k;
    let low = vec2(inverse_of(row_factors[row], several), inverse_of(row_factors[row + APART], several));
    let third = inverse_of(row_factors[row + 2u * APART], several);
    return vec4(low, third, inverse_of(row_factors[row + 3u * APART], several));
#else
    return vec4(1.0);
#endif
}

fn fetch(row: u32, line: u32, col: u32) -> Batch {
    var batch: Batch;
    batch.x0 = fetch_codes(row, col);
    batch.x1 = fetch_codes(row + APART, col);
    batch.x2 = fetch_codes(row + 2u * APART, col);
    batch.x3 = fetch_codes(row + 3u * APART, col);
    batch.w0 = fetch_line(line, col);
    batch.w1 = fetch_line(line + APART, col);
#ifdef groups
    batch.scale = scales_of(row, col / params.x_group);
#endif
    return batch;
}

// Some bits of all that is in the batch.
fn looked_at(batch: Batch) -> u32 {
    let all = batch.x0 ^ batch.x1 ^ batch.x2 ^ batch.x3 ^ line_bits(batch.w0) ^ line_bits(batch.w1);
    let scale = bitcast<vec4<u32>>(batch.scale);
    return all.x ^ all.y ^ all.z ^ all.w ^ scale.x ^ scale.y ^ scale.z ^ scale.w;
}

// What the rows' codes of a batch are multiplied by.
fn ready_scale(batch: Batch, inverses: vec4<f32>) -> vec4<f32> {
    return select(vec4(1.0), batch.scale * inverses, params.x_group < params.k);
}

fn stage(at: u32, tile: u32, number: u32, step: Step) {
    let x = at + tile * X_TILE;
#ifdef groups
    tile_x[x] = halves8(step.x.x) * vec4(f16(step.scale.x));
    tile_x[x + APART * PITCH] = halves8(step.x.y) * vec4(f16(step.scale.y));
    tile_x[x + 2u * APART * PITCH] = halves8(step.x.z) * vec4(f16(step.scale.z));
    tile_x[x + 3u * APART * PITCH] = halves8(step.x.w) * vec4(f16(step.scale.w));
#else
    tile_x[x] = halves8(step.x.x);
    tile_x[x + APART * PITCH] = halves8(step.x.y);
    tile_x[x + 2u * APART * PITCH] = halves8(step.x.z);
    tile_x[x + 3u * APART * PITCH] = halves8(step.x.w);
#endif
    let w = at + tile * W_TILE;
    tile_w[w] = weights_of(step.w0, number);
    tile_w[w + APART * PITCH] = weights_of(step.w1, number);
}

fn rights(at: u32) -> Rights {
    return Rights(right(at), right(at + 16u * PITCH), right(at + 32u * PITCH), right(at + 48u * PITCH));
}

// Stores a matrix of the subgroup, a thread two quads of it: the first is in `row` and `col` of the tile, the second eight rows on. What the
// driver stores from matrices are 4 bytes at a time, and single numbers from workgroup memory took a tenth of a product on an H100.
fn finish(sum: Sum, place: Place, tile: Tile, row: u32, col: u32) {
    let region = warp_of(place) * 64u;
    let rows = min(tile.row + row + vec2(0u, 8u), vec2(params.m - 1u));
    let inside = min(tile.col + col, params.n - 4u);
    // On their way before the matrix is stored.
    let near = quad_at(tile.above + rows.x, inside);
    let far = quad_at(tile.above + rows.y, inside);
    let before = addend(near);
    let below = addend(far);
    put_sum(sum, region);
    workgroupBarrier();
    let quad = region + lane_of(place);
    let factors = col_factors[col / 4u];
    if tile.row + row < params.m && tile.col + col < params.n {
        store_onto(near, sums[quad] * (row_factors[row] * factors), before);
    }
    if tile.row + row + 8u < params.m && tile.col + col < params.n {
        store_onto(far, sums[quad + 32u] * (row_factors[row + 8u] * factors), below);
    }
    workgroupBarrier();
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, place: Place) {
    // The host covers the outputs with tiles of 64 x 64; of these workgroups the first ones do the work.
    let tile = tile_of(workgroup, grid, ROWS, COLS);
    if tile.col >= params.n {
        return;
    }
    let row0 = tile.row;
    let col0 = tile.col;
    let warp = warp_of(place);
    let lane = lane_of(place);
    let local_row = warp / 2u * 64u;
    let local_col = warp % 2u * 64u;
    // Rows 0, 4, 1, 5, .. of each eight, so that two rows which are staged together share no bank.
    let quad = place.thread / 4u;
    let line = (quad & ~7u) | ((quad & 1u) << 2u) | ((quad >> 1u) & 3u);
    let part = place.thread % 4u;
    find_factors(tile, line, part, place.thread);
    let inverses = inverses_of(line);
    let x = local_row * PITCH;
    let w = local_col * PITCH;
    let to = line * PITCH + part;
    var c = Sums();
    var next = tile.first + 16u * part;
    var batch = fetch(row0 + line, col0 + line, next);
    var w0 = ready(batch.w0, line, next);
    var w1 = ready(batch.w1, line + APART, next);
    var scale = ready_scale(batch, inverses);
    stage(to, 0u, 0u, Step(vec4(batch.x0.x, batch.x1.x, batch.x2.x, batch.x3.x), scale, w0, w1));
    for (var k = tile.first; k < tile.end; k += ROUND) {
        workgroupBarrier();
        let b0 = rights(w);
        upper(left(x), left(x + 16u * PITCH), b0, &c);
        stage(to, 1u, 1u, Step(vec4(batch.x0.y, batch.x1.y, batch.x2.y, batch.x3.y), scale, w0, w1));
        lower(left(x + 32u * PITCH), left(x + 48u * PITCH), b0, &c);
        workgroupBarrier();
        let b1 = rights(w + W_TILE);
        upper(left(x + X_TILE), left(x + X_TILE + 16u * PITCH), b1, &c);
        stage(to, 0u, 2u, Step(vec4(batch.x0.z, batch.x1.z, batch.x2.z, batch.x3.z), scale, w0, w1));
        let last = Step(vec4(batch.x0.w, batch.x1.w, batch.x2.w, batch.x3.w), scale, w0, w1);
        next += ROUND;
        batch = fetch(row0 + line, col0 + line, next);
        lower(left(x + X_TILE + 32u * PITCH), left(x + X_TILE + 48u * PITCH), b1, &c);
        workgroupBarrier();
        let b2 = rights(w);
        upper(left(x), left(x + 16u * PITCH), b2, &c);
        stage(to, 1u, 3u, last);
        lower(left(x + 32u * PITCH), left(x + 48u * PITCH), b2, &c);
        workgroupBarrier();
        let b3 = rights(w + W_TILE);
        upper(left(x + X_TILE), left(x + X_TILE + 16u * PITCH), b3, &c);
        w0 = ready(batch.w0, line, next);
        w1 = ready(batch.w1, line + APART, next);
        scale = ready_scale(batch, inverses);
        stage(to, 0u, 0u, Step(vec4(batch.x0.x, batch.x1.x, batch.x2.x, batch.x3.x), scale, w0, w1));
        lower(left(x + X_TILE + 32u * PITCH), left(x + X_TILE + 48u * PITCH), b3, &c);
    }
    workgroupBarrier();
    if params.m == 0u { // never
        sums[place.thread] = vec4(f32(looked_at(batch)));
    }
    let row = local_row + lane / 4u;
    let col = local_col + lane % 4u * 4u;
    finish(c.c00, place, tile, row, col);
    finish(c.c01, place, tile, row, col + 16u);
    finish(c.c02, place, tile, row, col + 32u);
    finish(c.c03, place, tile, row, col + 48u);
    finish(c.c10, place, tile, row + 16u, col);
    finish(c.c11, place, tile, row + 16u, col + 16u);
    finish(c.c12, place, tile, row + 16u, col + 32u);
    finish(c.c13, place, tile, row + 16u, col + 48u);
    finish(c.c20, place, tile, row + 32u, col);
    finish(c.c21, place, tile, row + 32u, col + 16u);
    finish(c.c22, place, tile, row + 32u, col + 32u);
    finish(c.c23, place, tile, row + 32u, col + 48u);
    finish(c.c30, place, tile, row + 48u, col);
    finish(c.c31, place, tile, row + 48u, col + 16u);
    finish(c.c32, place, tile, row + 48u, col + 32u);
    finish(c.c33, place, tile, row + 48u, col + 48u);
}
