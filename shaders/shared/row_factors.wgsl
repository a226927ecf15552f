// Factors of rows, such that codes times scales over them fit f16: a row's sums are multiplied by its factor at their end.
// Where a row has several scales they are short (kernels::ScaleBits), so that what is left of them is exact there. Those of a weight also
// lie where one factor does for all; a token's may be anywhere, so its factor follows its largest.
// The importing shader has the bindings of a product.
#import weight_scale

const GROUPS_FACTOR = 0.015625; // of rows of the weight that have several scales: 2^-6

// The word that a scale of a row of the weight is in (weight_scale.wgsl); beyond the last row or group the last.
fn group_scale_word(row: u32, which: u32) -> u32 {
    let groups = (params.k + params.group - 1u) / params.group;
    return scale_word(min(row, params.n - 1u), groups, min(which, groups - 1u));
}

// Likewise of a row of codes.
fn token_scale(row: u32, which: u32) -> f32 {
    let groups = (params.k + params.x_group - 1u) / params.x_group;
    return scales[min(row, params.m - 1u) * groups + min(which, groups - 1u)];
}

// The only scales of four rows, or what serves several.
fn weight_factors(row: u32) -> vec4<f32> {
    if params.group < params.k {
        return vec4(GROUPS_FACTOR);
    }
    return scales_of_rows(min(row + vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u)), 1u, 0u);
}

// Such a word's scale over its row's factor. `row` may be counted from any even one.
fn scale_left(word: u32, row: u32) -> f32 {
    return select(1.0, scale_in(word, row) / GROUPS_FACTOR, params.group < params.k);
}

// Of a row of codes, its only scale, or of `several` the power of two at or below the largest: others are then below twice it.
fn factor_of(most: f32, several: bool) -> f32 {
    return select(most, bitcast<f32>(clamp(bitcast<u32>(most), 0x01000000u, 0x7e000000u) & 0x7f800000u), several);
}

// 1 / factor, where a row has several scales: their exponents, biased by 127, add up to 254.
fn inverse_of(factor: f32, several: bool) -> f32 {
    return select(1.0, bitcast<f32>(0x7f000000u - bitcast<u32>(factor)), several);
}
