// Factors of rows, such that codes times scales over them fit f16: a row's sums are multiplied by its factor at their end.
// Where a row has several scales they are short (kernels::ScaleBits), so that what is left of them is exact there. Those of a weight also
// lie where one factor does for all; a token's may be anywhere, so its factor follows its largest.
// The importing shader has the bindings of a product.

const GROUPS_FACTOR = 0.015625; // of rows of the weight that have several scales: 2^-6

// Of a row of the weight; beyond the last row or group the last.
fn group_scale(row: u32, which: u32) -> f32 {
    let groups = (params.k + params.group - 1u) / params.group;
    return weight_scales[min(row, params.n - 1u) * groups + min(which, groups - 1u)];
}

// Likewise of a row of codes.
fn token_scale(row: u32, which: u32) -> f32 {
    let groups = (params.k + params.x_group - 1u) / params.x_group;
    return scales[min(row, params.m - 1u) * groups + min(which, groups - 1u)];
}

// A row's only scale, or what serves several.
fn weight_factor(row: u32) -> f32 {
    if params.group < params.k {
        return GROUPS_FACTOR;
    }
    return group_scale(row, 0u);
}

// Of four rows.
fn weight_factors(row: u32) -> vec4<f32> {
    let low = vec2(weight_factor(row), weight_factor(row + 1u));
    return vec4(low, weight_factor(row + 2u), weight_factor(row + 3u));
}

// A group's scale over its row's factor.
fn scale_left(scale: f32) -> f32 {
    return select(1.0, scale / GROUPS_FACTOR, params.group < params.k);
}

// Of a row of codes, its only scale, or of `several` the power of two at or below the largest: others are then below twice it.
fn factor_of(most: f32, several: bool) -> f32 {
    return select(most, bitcast<f32>(clamp(bitcast<u32>(most), 0x01000000u, 0x7e000000u) & 0x7f800000u), several);
}

// 1 / factor, where a row has several scales: their exponents, biased by 127, add up to 254.
fn inverse_of(factor: f32, several: bool) -> f32 {
    return select(1.0, bitcast<f32>(0x7f000000u - bitcast<u32>(factor)), several);
}
