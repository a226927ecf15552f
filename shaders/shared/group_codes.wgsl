// int8 codes of 32 columns with a scale of their own, as a product of one token makes them for the next (grouped_rows.wgsl): the
// first 8 threads hold 4 columns each. The importing shader has the bindings `out_codes`, [1, columns] int8, and `out_scales`,
// [2, columns / 32]: scales, and sums of squares. All of a workgroup call together.
#import int8_codes
#import place

var<workgroup> tops: array<vec2<f32>, 8>; // of four columns the largest magnitude, and the sum of squares

// Codes of group `group` of `groups`, of columns `v`; squares: the sum of squares of what they stand for, of this thread's columns.
fn put_codes(group: u32, groups: u32, v: vec4<f32>, squares: f32, place: Place) {
    if place.thread < 8u {
        let pairs = max(abs(v.xy), abs(v.zw));
        tops[place.thread] = vec2(max(pairs.x, pairs.y), squares);
    }
    workgroupBarrier();
    if place.thread < 8u {
        var both = tops[0];
        for (var i = 1u; i < 8u; i++) {
            both = vec2(max(both.x, tops[i].x), both.y + tops[i].y);
        }
        out_codes[8u * group + place.thread] = codes_of(v, group_inverse_of(both.x));
        if place.thread == 0u {
            out_scales[group] = group_scale_of(both.x);
            out_scales[groups + group] = both.y;
        }
    }
}
