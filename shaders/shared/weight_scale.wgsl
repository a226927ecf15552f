// As weight_scales, of single rows: the importing shader's binding `weight_scales` is of u32.

// Of a row's groups the word that one's scale is in; coop_rows, which asks for it early, takes the scale out late.
fn scale_word(row: u32, groups: u32, which: u32) -> u32 {
    let at = 4u * (row / 4u * groups + which) + row % 4u;
    return weight_scales[at >> select(0u, 1u, params.scale_bits == 16u)];
}

// The scale of `row`: where they are halves, in the lower one of even rows.
fn scale_in(word: u32, row: u32) -> f32 {
    let half = select(word << 16u, word & 0xffff0000u, row % 2u == 1u);
    return bitcast<f32>(select(word, half, params.scale_bits == 16u));
}

fn one_scale(row: u32, groups: u32, which: u32) -> f32 {
    return scale_in(scale_word(row, groups, which), row);
}

// Of four rows.
fn scales_of_rows(rows: vec4<u32>, groups: u32, which: u32) -> vec4<f32> {
    let low = vec2(one_scale(rows.x, groups, which), one_scale(rows.y, groups, which));
    return vec4(low, one_scale(rows.z, groups, which), one_scale(rows.w, groups, which));
}
