// Tensors of the scan in f32, or in f16 with the words `half` and `half_blocks`: x, B and C, the states that enter chunks, outputs
// and products C·B, of which f16 holds a 64th, up to 4e6. The importing shader has `xbc` and `Params` with the sizes.
#import four

#ifdef half half_blocks
const PART = 64.0;

// vec4s of a chunk's products.
fn product_quads() -> u32 {
    return (params.chunk + 7u) / 8u * 2u;
}
#else
const PART = 1.0;

// vec4s of a chunk's products.
fn product_quads() -> u32 {
    return (params.chunk + 3u) / 4u;
}
#endif

// Four rows of xbc at one column, as columns of the matrix; rows beyond `last` repeat it.
fn rows4(row: u32, last: u32, column: u32) -> mat4x4<f32> {
    let stride = (params.heads * params.head_dim + 2u * params.groups * params.state) / 4u;
    let at = min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last)) * stride + column;
    return mat4x4(four(xbc[at.x]), four(xbc[at.y]), four(xbc[at.z]), four(xbc[at.w]));
}
