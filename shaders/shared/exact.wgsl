// WGSL lets compilers fuse and reorder float operations (15.7.4.4). They cannot see through this, so that a product
// within is rounded before it is added. The importing shader has `params.zero`, always 0, which no compiler knows.

fn exactly(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4(params.zero));
}
