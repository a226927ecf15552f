// chunk_products.wgsl for f16 tensors on cooperative matrices (shared/products_tiles.wgsl); states in whole 16 bytes.
#import half_words
#import products_tiles

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4
    chunk: u32,
}

const NUMBERS = 8u;
const PITCH_X = 18u; // padded against bank conflicts
const PITCH_W = 18u;
const TILE = SIDE * PITCH_X;
const PART = 64.0; // products are stored as a 64th

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state] f16
@group(0) @binding(1) var<storage, read_write> products: array<vec2<u32>>; // [tokens, groups * chunk] f16, a chunk in whole units
@group(0) @binding(2) var<uniform> params: Params;

fn put_c(at: u32, unit: vec4<u32>, within: f32) {
    tile_x[at] = vec4<f16>(halves4(unit.xy) * within);
    tile_x[at + 1u] = vec4<f16>(halves4(unit.zw) * within);
}

fn put_b(at: u32, unit: vec4<u32>) {
    tile_w[at] = vec4<f16>(halves4(unit.xy));
    tile_w[at + 1u] = vec4<f16>(halves4(unit.zw));
}

fn stage(thread: u32, c: Units, b: Units, within: f32) {
    let at = thread / UNITS * PITCH_X + 2u * (thread % UNITS);
    put_c(at, c.u0, within);
    put_c(at + 16u * PITCH_X, c.u1, within);
    put_c(at + 32u * PITCH_X, c.u2, within);
    put_c(at + 48u * PITCH_X, c.u3, within);
    put_b(at, b.u0);
    put_b(at + 16u * PITCH_W, b.u1);
    put_b(at + 32u * PITCH_W, b.u2);
    put_b(at + 48u * PITCH_W, b.u3);
}

fn add_step(a: u32, c: ptr<function, Sums>) {
    for (var quad = 0u; quad < 16u; quad += 4u) {
        let x = left(a + quad);
        (*c).c0 = multiply_add(x, right(quad), (*c).c0);
        (*c).c1 = multiply_add(x, right(16u * PITCH_W + quad), (*c).c1);
        (*c).c2 = multiply_add(x, right(32u * PITCH_W + quad), (*c).c2);
        (*c).c3 = multiply_add(x, right(48u * PITCH_W + quad), (*c).c3);
    }
}

fn store_quad(at: u32, product: vec4<f32>) {
    products[at] = words_of(product / PART);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
