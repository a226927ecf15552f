// Products of f32 numbers on f16 matrix units, each number as two f16 (first_bits.wgsl), from tiles that begin again at `LOW` with
// what is left of the numbers. The importing shader has `tile_x`, `right`, which loads a right factor, and `const LOW`.
#import first_bits
#import matrices

fn put_x(at: u32, x: vec4<f32>) {
    let near = first_bits(x);
    tile_x[at] = vec4<f16>(near);
    tile_x[LOW + at] = vec4<f16>(x - near);
}

// Adds the product of a left factor, its first bits and what is left, with the right one at `at`.
fn add(near: Left, low: Left, at: u32, c: Sum) -> Sum {
    let b = right(at);
    let sum = multiply_add(low, b, multiply_add(near, right(LOW + at), c));
    return multiply_add(near, b, sum);
}
