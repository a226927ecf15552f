// As quad_int4.wgsl, of an int8 weight.
#import dot

const QUAD = 16u;
const SHIFT = 0u;
alias Token = vec4<u32>;

fn fetch_token(at: u32) -> Token {
    return codes_at(at);
}

fn token_bits(x: Token) -> u32 {
    return x.x;
}

fn changed(x: Token, by: u32) -> Token {
    return x ^ vec4(by);
}

fn dot_quad(x: Token, w: vec4<u32>) -> i32 {
    return dot_codes(x.x, w.x) + dot_codes(x.y, w.y) + (dot_codes(x.z, w.z) + dot_codes(x.w, w.w));
}
