// A vec4 of the weight from each of four rows, which start at vec4 `rows`, and their products with a token's codes (quad_int4.wgsl,
// quad_int8.wgsl). The importing shader has the binding `weight`.

struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

fn fetch_rows(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// Bits of a word of each vec4.
fn any_bits(w: Quads) -> u32 {
    return w.a.x | w.b.x | w.c.x | w.d.x;
}

fn dot_rows(x: Token, w: Quads) -> vec4<i32> {
    return vec4(dot_quad(x, w.a), dot_quad(x, w.b), dot_quad(x, w.c), dot_quad(x, w.d));
}
