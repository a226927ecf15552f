// Symmetric int8: scale = max|x| / 127, code = round(x / scale), ties to even, within +-127. Where the largest value is
// below 1e-35, codes 0 and, of a whole row, scale 1. Where it is not finite (top.wgsl), neither is the scale, so that products are not.
#import pack

const SMALLEST = 1e-35; // below, scale or its inverse would leave the range of normal floats

// A multiplication, since WGSL's division may be off by 2.5 ulp and the reference's scale must be the same.
fn scale_of(largest: f32) -> f32 {
    return select(largest * (1.0 / 127.0), 1.0, largest < SMALLEST);
}

fn inverse_of(largest: f32) -> f32 {
    return select(127.0 / largest, 0.0, largest < SMALLEST);
}

// Where groups of a row have scales of their own: rounded up to 4 significant bits, so that code times scale has the 11 of an
// f16. A group of zeros has a small one.
fn group_scale_of(largest: f32) -> f32 {
    let bits = bitcast<u32>(select(largest, SMALLEST, largest < SMALLEST) * (1.0 / 127.0)) & 0x7fffffffu;
    return bitcast<f32>(min(bits + 0xfffffu, 0x7f800000u) & 0xfff00000u);
}

fn group_inverse_of(largest: f32) -> f32 {
    return select(1.0 / group_scale_of(largest), 0.0, largest < SMALLEST);
}

fn codes_of(v: vec4<f32>, inverse: f32) -> u32 {
    return rounded8(v * inverse);
}
