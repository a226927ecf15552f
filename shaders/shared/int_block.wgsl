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

// The sums as f32, each column times its scale.
fn scale_columns(sums: Sums, scale: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(
        vec4<f32>(sums[0]) * scale,
        vec4<f32>(sums[1]) * scale,
        vec4<f32>(sums[2]) * scale,
        vec4<f32>(sums[3]) * scale,
    );
}

// Each row times its scale.
fn scale_rows(block: mat4x4<f32>, scale: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(block[0] * scale.x, block[1] * scale.y, block[2] * scale.z, block[3] * scale.w);
}
