// Factors of rows, such that codes times scales over them fit f16: a row's sums are multiplied by its factor at their end.
// Where a row has several scales they are short (kernels::ScaleBits), so that what is left of them is exact there.
// The importing shader has the bindings of a product.

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

// The largest of groups first, first + step, ..; four at a time, since each load takes long.
fn largest_scale(row: u32, first: u32, step: u32) -> f32 {
    var most = 0.0;
    for (var g = first; g < (params.k + params.group - 1u) / params.group; g += 4u * step) {
        let near = max(group_scale(row, g), group_scale(row, g + step));
        most = max(most, max(near, max(group_scale(row, g + 2u * step), group_scale(row, g + 3u * step))));
    }
    return most;
}

// A row's only scale, or of `several` the power of two at or below the largest: others are then below twice it.
fn factor_of(most: f32, several: bool) -> f32 {
    return select(most, bitcast<f32>(clamp(bitcast<u32>(most), 0x01000000u, 0x7e000000u) & 0x7f800000u), several);
}

// 1 / factor, where a row has several scales: their exponents, biased by 127, add up to 254.
fn inverse_of(factor: f32, several: bool) -> f32 {
    return select(1.0, bitcast<f32>(0x7f000000u - bitcast<u32>(factor)), several);
}
