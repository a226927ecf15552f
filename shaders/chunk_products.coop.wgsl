// chunk_products.wgsl on cooperative matrices (shared/products_tiles.wgsl), each number as two f16 (shared/first_bits.wgsl).
#import coop_split
#import products_tiles

struct Params {
    tokens: u32,
    heads: u32,
    head_dim: u32,
    groups: u32,
    state: u32, // a multiple of 4
    chunk: u32,
}

const NUMBERS = 4u;
const PITCH_X = 10u; // padded against bank conflicts
const PITCH_W = 10u;
const LOW = SIDE * PITCH_X; // where what is left of the numbers begins
const TILE = 2u * LOW;

@group(0) @binding(0) var<storage, read> xbc: array<vec4<u32>>; // [tokens, heads * head_dim + 2 * groups * state]
@group(0) @binding(1) var<storage, read_write> products: array<vec4<u32>>; // [tokens, groups * chunk], a chunk in whole vec4s
@group(0) @binding(2) var<uniform> params: Params;

fn put_w(at: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_w[at] = vec4<f16>(near);
    tile_w[LOW + at] = vec4<f16>(x - near);
}

fn stage(thread: u32, c: Units, b: Units, within: f32) {
    let at = thread / UNITS * PITCH_X + thread % UNITS;
    put_x(at, bitcast<vec4<f32>>(c.u0) * within);
    put_x(at + 16u * PITCH_X, bitcast<vec4<f32>>(c.u1) * within);
    put_x(at + 32u * PITCH_X, bitcast<vec4<f32>>(c.u2) * within);
    put_x(at + 48u * PITCH_X, bitcast<vec4<f32>>(c.u3) * within);
    put_w(at, bitcast<vec4<f32>>(b.u0));
    put_w(at + 16u * PITCH_W, bitcast<vec4<f32>>(b.u1));
    put_w(at + 32u * PITCH_W, bitcast<vec4<f32>>(b.u2));
    put_w(at + 48u * PITCH_W, bitcast<vec4<f32>>(b.u3));
}

fn add_quad(a: u32, quad: u32, c: ptr<function, Sums>) {
    let near = left(a + quad);
    let low = left(LOW + a + quad);
    (*c).c0 = add(near, low, quad, (*c).c0);
    (*c).c1 = add(near, low, 16u * PITCH_W + quad, (*c).c1);
    (*c).c2 = add(near, low, 32u * PITCH_W + quad, (*c).c2);
    (*c).c3 = add(near, low, 48u * PITCH_W + quad, (*c).c3);
}

fn add_step(a: u32, c: ptr<function, Sums>) {
    add_quad(a, 0u, c);
    add_quad(a, 4u, c);
}

fn store_quad(at: u32, product: vec4<f32>) {
    products[at] = bitcast<vec4<u32>>(product);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
