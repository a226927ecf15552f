// Rows of up to six spans with one scale. The importing shader also has the binding `scales` and `reduce_scratch`, WG or
// more f32.
#import reduce_in
#import spans

struct Long {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
    d: mat4x4<f32>,
    e: mat4x4<f32>,
    f: mat4x4<f32>,
}

// Codes and scale of a row.
fn quantize_long(row: u32, long: Long, place: Place) {
    let t = place.thread;
    let near = max(max(tops(long.a, spots(0u, t)), tops(long.b, spots(1u, t))), tops(long.c, spots(2u, t)));
    let far = max(max(tops(long.d, spots(3u, t)), tops(long.e, spots(4u, t))), tops(long.f, spots(5u, t)));
    let largest = workgroup_max(top(max(near, far)), place);
    let inverse = vec4(inverse_of(largest));
    put_codes(row, spots(0u, t), long.a, inverse);
    put_codes(row, spots(1u, t), long.b, inverse);
    put_codes(row, spots(2u, t), long.c, inverse);
    put_codes(row, spots(3u, t), long.d, inverse);
    put_codes(row, spots(4u, t), long.e, inverse);
    put_codes(row, spots(5u, t), long.f, inverse);
    if t == 0u {
        scales[row] = scale_of(largest);
    }
}
