// 4 x 4 int32 sums of products of packed int8 codes: element j of vector i belongs to row i, column j.
#import dot

alias Sums = array<vec4<i32>, 4>;

// Adds the products of one word of 4 rows of `x` and of 4 columns of `weight`.
fn multiply_add(sums: Sums, x: vec4<u32>, weight: vec4<u32>) -> Sums {
    return Sums(
        sums[0] + dots(x.x, weight),
        sums[1] + dots(x.y, weight),
        sums[2] + dots(x.z, weight),
        sums[3] + dots(x.w, weight),
    );
}

fn dots(x: u32, weight: vec4<u32>) -> vec4<i32> {
    return vec4(
        dot_codes(x, weight.x),
        dot_codes(x, weight.y),
        dot_codes(x, weight.z),
        dot_codes(x, weight.w),
    );
}

// `total` and the sums as f32, each times the scales of its row and its column.
fn add_scaled(total: mat4x4<f32>, sums: Sums, row: vec4<f32>, column: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        total[0] + vec4<f32>(sums[0]) * (row.x * column),
        total[1] + vec4<f32>(sums[1]) * (row.y * column),
        total[2] + vec4<f32>(sums[2]) * (row.z * column),
        total[3] + vec4<f32>(sums[3]) * (row.w * column),
    );
}
