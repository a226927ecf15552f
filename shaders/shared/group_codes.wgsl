// int8 codes of 32 columns with a scale of their own, as a product of few tokens makes them for the next (grouped_rows.wgsl): each 8
// of the first threads, of at most 64, hold 4 columns each. The importing shader has the bindings `out_codes`, [tokens, columns] int8, and `out_scales`,
// [2, tokens * columns / 32]: scales, and sums of squares. All of a workgroup call together.
#import int8_codes
#import place
#import top

var<workgroup> tops: array<vec2<f32>, 64>; // of four columns the largest magnitude, and the sum of squares

// Codes of group `group` of `groups`, all tokens' counted, of columns `v`, where this thread holds some; squares: the sum of squares of what they
// stand for, of this thread's columns.
fn put_codes(group: u32, groups: u32, v: vec4<f32>, squares: f32, holds: bool, place: Place) {
    if holds {
        tops[place.thread] = vec2(top(v), squares);
    }
    workgroupBarrier();
    if holds {
        let first = place.thread / 8u * 8u;
        var both = tops[first];
        for (var i = 1u; i < 8u; i++) {
            both = vec2(max(both.x, tops[first + i].x), both.y + tops[first + i].y);
        }
        out_codes[8u * group + place.thread % 8u] = codes_of(v, group_inverse_of(both.x));
        if place.thread == first {
            out_scales[group] = group_scale_of(both.x);
            out_scales[groups + group] = both.y;
        }
    }
}
