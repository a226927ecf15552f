// The dense factor of a Hadamard transform on cooperative matrices, of runs of 256 columns and up to 84 of them: a product with a matrix of
// signs, which are f16, as are the two halves of a number of 22 bits (shared/first_bits.wgsl).
//
// Of the six bits of a quad's place in its run, u = 16 a + .., thread (run, i) holds all a and four quads of each: the other two bits are i and
// j. Part a of the row goes through workgroup memory: in as [run, place of (j, i)], out as sums [row of H, same place], of which a thread takes
// all i of one j, so all levels but those between i need no other thread. The importing shader has `signs` and `params.order`.
#import butterflies
#import first_bits
#import matrices
#import reduce_in
#import top

const WG = 384u;
const RUN = 64u; // quads
const RUNS = 84u; // at most: what 48 KiB hold
const REST = 16u; // quads of a part, then come those of the second halves
const PITCH = 34u; // vec4s from a row of the tile to the next, padded against bank conflicts
const SUMS = 17u; // likewise, of the sums
const SIGNS = 26u; // likewise, of the signs: 24

var<workgroup> tile: array<vec4<f16>, RUNS * PITCH>;
var<workgroup> sums: array<vec4<f32>, 96u * SUMS>;
var<workgroup> reduce_scratch: array<f32, 16>; // of 12 subgroups

// How many rows a workgroup makes.
fn rows_each(rows: u32) -> u32 {
    return clamp(rows / 256u, 1u, 16u);
}

// The first of the 16 runs of a block: the last ones end with the last run, so that the tile has no rows beyond.
fn block_start(block: u32) -> u32 {
    return min(16u * block, max(params.order, 16u) - 16u);
}

// Signs of four columns of a block, the first a multiple of 4; 0 beyond the order, and for those of the blocks before.
fn sign4(row: u32, block: u32, column: u32) -> vec4<f16> {
    let words = (params.order + 31u) / 32u;
    let word = signs[min(row, params.order - 1u) * words + min(column / 32u, words - 1u)] >> (column % 32u);
    let negative = (vec4(word) & vec4(1u, 2u, 4u, 8u)) != vec4(0u);
    let columns = column + vec4(0u, 1u, 2u, 3u);
    let own = columns >= vec4(16u * block) & columns < vec4(params.order) & vec4(row < params.order);
    return select(vec4<f16>(), select(vec4(1h), vec4(-1h), negative), own);
}

// Six blocks of H, into the tile.
fn stage_signs(thread: u32) {
    let row = thread / 4u;
    for (var i = 0u; i < 6u; i++) {
        let quad = thread % 4u * 6u + i;
        tile[row * SIGNS + quad] = sign4(row, quad / 4u, block_start(quad / 4u) + quad % 4u * 4u);
    }
}

// 32 rows of signs, in two times six factors of 16 rows and columns.
struct Factors {
    a0: Left,
    a1: Left,
    a2: Left,
    a3: Left,
    a4: Left,
    a5: Left,
    b0: Left,
    b1: Left,
    b2: Left,
    b3: Left,
    b4: Left,
    b5: Left,
}

fn left(at: u32) -> Left {
    return coopLoadT<Left>(&tile[at], SIGNS);
}

// A block of runs by 16 columns.
fn right(block: u32, at: u32) -> Right {
    return coopLoadT<Right>(&tile[block_start(block) * PITCH + at], PITCH);
}

// What a subgroup makes: rows 32 (warp / 4).. of columns 16 (warp % 4).. of each part. All of the workgroup call it together.
fn factors_of(thread: u32, warp: u32) -> Factors {
    stage_signs(thread);
    workgroupBarrier();
    let a = warp / 4u * 32u * SIGNS;
    let b = a + 16u * SIGNS;
    let a0 = left(a);
    let a1 = left(a + 4u);
    let a2 = left(a + 8u);
    let a3 = left(a + 12u);
    let a4 = left(a + 16u);
    let a5 = left(a + 20u);
    let b0 = left(b);
    let b1 = left(b + 4u);
    let b2 = left(b + 8u);
    let b3 = left(b + 12u);
    let b4 = left(b + 16u);
    let b5 = left(b + 20u);
    workgroupBarrier();
    return Factors(a0, a1, a2, a3, a4, a5, b0, b1, b2, b3, b4, b5);
}

struct Both {
    upper: Sum,
    lower: Sum,
}

// These rows of signs times 16 columns of the tile, added to two matrices. A right factor is loaded once for both.
fn add6(f: Factors, at: u32, before: Both) -> Both {
    var upper = before.upper;
    var lower = before.lower;
    let r0 = right(0u, at);
    upper = multiply_add(f.a0, r0, upper);
    lower = multiply_add(f.b0, r0, lower);
    let r1 = right(1u, at);
    upper = multiply_add(f.a1, r1, upper);
    lower = multiply_add(f.b1, r1, lower);
    let r2 = right(2u, at);
    upper = multiply_add(f.a2, r2, upper);
    lower = multiply_add(f.b2, r2, lower);
    let r3 = right(3u, at);
    upper = multiply_add(f.a3, r3, upper);
    lower = multiply_add(f.b3, r3, lower);
    let r4 = right(4u, at);
    upper = multiply_add(f.a4, r4, upper);
    lower = multiply_add(f.b4, r4, lower);
    let r5 = right(5u, at);
    upper = multiply_add(f.a5, r5, upper);
    lower = multiply_add(f.b5, r5, lower);
    return Both(upper, lower);
}

// Levels within a quad and between columns.
fn own_levels(m: mat4x4<f32>) -> mat4x4<f32> {
    return butterflies(m, vec4(0u), 1u);
}

fn cut(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(first_bits(m[0]), first_bits(m[1]), first_bits(m[2]), first_bits(m[3]));
}

// Where a part's quad (j, i) is: so that neither threads of one j nor of one i share memory banks.
fn place_of(j: u32, i: u32) -> u32 {
    return 8u * (i / 2u) + 2u * j + i % 2u;
}

// A thread's quads of all j, a column each: first halves and rests.
fn stage(thread: u32, m: mat4x4<f32>) {
    if thread / 4u >= RUNS {
        return;
    }
    let at = thread / 4u * PITCH + place_of(0u, thread % 4u);
    let first = cut(m);
    let rest = m - first;
    tile[at] = vec4<f16>(first[0]);
    tile[at + 2u] = vec4<f16>(first[1]);
    tile[at + 4u] = vec4<f16>(first[2]);
    tile[at + 6u] = vec4<f16>(first[3]);
    tile[at + REST] = vec4<f16>(rest[0]);
    tile[at + REST + 2u] = vec4<f16>(rest[1]);
    tile[at + REST + 4u] = vec4<f16>(rest[2]);
    tile[at + REST + 6u] = vec4<f16>(rest[3]);
}

// Sums of row thread / 4 and j = thread % 4, a column for each i; with the levels between them all are done.
fn results(thread: u32) -> mat4x4<f32> {
    let at = thread / 4u * SUMS + place_of(thread % 4u, 0u);
    let m = mat4x4(sums[at], sums[at + 1u], sums[at + 8u], sums[at + 9u]);
    let near = mat4x4(m[0] + m[1], m[0] - m[1], m[2] + m[3], m[2] - m[3]);
    return mat4x4(near[0] + near[2], near[1] + near[3], near[0] - near[2], near[1] - near[3]);
}

// A part whose other levels are done, by the dense factor and its last levels.
fn mixed(thread: u32, warp: u32, part: mat4x4<f32>, factors: Factors) -> mat4x4<f32> {
    let columns = warp % 4u * 4u;
    let region = warp / 4u * 32u * SUMS + columns;
    stage(thread, part);
    workgroupBarrier();
    let all = add6(factors, columns, add6(factors, columns + REST, Both()));
    put_matrix(all.upper, region, SUMS);
    put_matrix(all.lower, region + 16u * SUMS, SUMS);
    workgroupBarrier();
    return results(thread);
}

fn tops(a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> f32 {
    return max(max(top16(a), top16(b)), max(top16(c), top16(d)));
}

// Four quads of each part.
struct Parts {
    p0: mat4x4<f32>,
    p1: mat4x4<f32>,
    p2: mat4x4<f32>,
    p3: mat4x4<f32>,
}

// With all levels but those between i.
fn levels(x: Parts) -> Parts {
    let sum0 = own_levels(x.p0 + x.p1);
    let sum1 = own_levels(x.p2 + x.p3);
    let difference0 = own_levels(x.p0 - x.p1);
    let difference1 = own_levels(x.p2 - x.p3);
    return Parts(sum0 + sum1, difference0 + difference1, sum0 - sum1, difference0 - difference1);
}

// Bits of a power of two by which numbers of up to `largest` come up to 2^14 to 2^15; within what it and its inverse can be.
fn power_for(largest: f32) -> u32 {
    let exponent = bitcast<u32>(largest) >> 23u;
    return clamp(268u - min(exponent, 255u), 1u, 253u);
}
