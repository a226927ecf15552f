// Scales of a weight's groups, those of four rows next to each other: [ceil(rows / 4), groups, 4], so that what takes four rows needs one
// load of them. They are bf16 where all are (kernels::upload_scales), else f32. The importing shader has the binding `weight_scales`, of
// vec2<u32>, and `params` with scale_bits; what takes single rows imports weight_scale.

// Where those of `row` and the other three begin, which have `groups` each; group g's are g further on.
fn first_scales(row: u32, groups: u32) -> u32 {
    return row / 4u * groups;
}

// Of the four rows at a place.
fn four_scales(place: u32) -> vec4<f32> {
    if params.scale_bits == 16u {
        let pairs = weight_scales[place];
        return bitcast<vec4<f32>>(vec4(pairs.x << 16u, pairs.x & 0xffff0000u, pairs.y << 16u, pairs.y & 0xffff0000u));
    }
    return bitcast<vec4<f32>>(vec4(weight_scales[2u * place], weight_scales[2u * place + 1u]));
}

// Of two of them, `row`, which is even, and the next.
fn two_scales(place: u32, row: u32) -> vec2<f32> {
    if params.scale_bits == 16u {
        let pair = weight_scales[place][row / 2u % 2u];
        return bitcast<vec2<f32>>(vec2(pair << 16u, pair & 0xffff0000u));
    }
    return bitcast<vec2<f32>>(weight_scales[2u * place + row / 2u % 2u]);
}
