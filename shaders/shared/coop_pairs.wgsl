// Products of f32 numbers on f16 matrix units: each number is two f16, its first 11 bits and what is left, 22 bits
// together; three products of four (what is left times what is left would be below f32's own rounding), f32 sums. The bits
// are cut off as integers: of x - f32(f16(x)) NVIDIA's compiler makes 0. Numbers
// beyond f16's range end as infinity or NaN; those below 0.1 keep 2^-25 of an error.
//
// A workgroup has 4 subgroups with 16 rows each of left factors, in parts of 32 columns, and right factors of 16 rows and
// 128 columns that all share: below 24 KiB, so that two workgroups share a core (docs/performance.md). With the word
// `half_blocks` or `int8_blocks` right factors are f16 already, 32 rows of them: two products, and no others where left ones are as
// exact. The importing shader brings them here, and calls `rescale` and the like between barriers.
#import coop_tiles
#import first_bits

const WG = 128u;
const ROWS = 64u; // of left factors
const PITCH_X = 10u; // vec4s from a row to the next: 8 of 32 columns, padded against bank conflicts
const PITCH_W = 34u; // 32 of 128 columns, likewise
const X_TILE = 640u; // ROWS * PITCH_X
#ifdef half_blocks int8_blocks
const KEYS = 32u; // rows of right factors
const SUM_PITCH = 10u; // of two matrices next to each other, padded likewise

var<workgroup> tile_x: array<vec4<f16>, X_TILE>;
var<workgroup> tile_w: array<vec4<f16>, KEYS * PITCH_W>;
#else
const KEYS = 16u;
const SUM_PITCH = 4u;
const LOW_X = X_TILE; // where the second halves begin
const LOW_W = 544u; // KEYS * PITCH_W

var<workgroup> tile_x: array<vec4<f16>, 2u * X_TILE>;
var<workgroup> tile_w: array<vec4<f16>, 2u * KEYS * PITCH_W>;
#endif
var<workgroup> sums: array<vec4<f32>, ROWS * SUM_PITCH>; // matrices of each subgroup
var<workgroup> factors: array<f32, ROWS>; // of each row's sums

// What is left of left factors, where it is kept in the tile of right ones.
fn rest(at: u32) -> Left {
    return coopLoadT<Left>(&tile_w[at], PITCH_X);
}

#ifdef half_blocks int8_blocks
// Left factors' 16 columns times those of 16 right rows, whose tile begins at `at`: products of rows with rows.
fn add_dots(near: Left, low: Left, at: u32, c: Sum) -> Sum {
    let keys = right(at);
    return multiply_add(low, keys, multiply_add(near, keys, c));
}

// Left factors' 32 columns times 32 right rows, of which 16 columns from vec4 `at` on.
fn add_products(first: Left, second: Left, at: u32, c: Sum) -> Sum {
    return multiply_add(second, right_by_rows(16u * PITCH_W + at), multiply_add(first, right_by_rows(at), c));
}
#else
fn put_x(row: u32, quad: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_x[row * PITCH_X + quad] = vec4<f16>(near);
    tile_x[LOW_X + row * PITCH_X + quad] = vec4<f16>(x - near);
}

fn put_w(row: u32, quad: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_w[row * PITCH_W + quad] = vec4<f16>(near);
    tile_w[LOW_W + row * PITCH_W + quad] = vec4<f16>(x - near);
}

// Left factors' 16 columns times those of 16 right rows, whose tile begins at `at`: products of rows with rows.
fn add_dots(near: Left, low: Left, at: u32, c: Sum) -> Sum {
    let keys = right(at);
    let sum = multiply_add(low, keys, multiply_add(near, right(LOW_W + at), c));
    return multiply_add(near, keys, sum);
}

// Left factors' 16 columns times 16 right rows, of which 16 columns from vec4 `at` on.
fn add_products(near: Left, low: Left, at: u32, c: Sum) -> Sum {
    let keys = right_by_rows(at);
    let sum = multiply_add(low, keys, multiply_add(near, right_by_rows(LOW_W + at), c));
    return multiply_add(near, keys, sum);
}
#endif

// A matrix of each subgroup times the factors of their rows.
fn rescale(thread: u32) {
    sums[thread / 4u * SUM_PITCH + thread % 4u] *= factors[thread / 4u];
    sums[(WG + thread) / 4u * SUM_PITCH + thread % 4u] *= factors[(WG + thread) / 4u];
}
