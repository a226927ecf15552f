// Codes of one token that meet a vec4 of an int4 weight, and their product, 2^SHIFT times too large. The importing shader has `codes_at`,
// which gives the token's in vec4s of words.
#import dot
#import pack

const QUAD = 32u; // codes of a vec4 of the weight
const SHIFT = 4u;

struct Token {
    first: vec4<u32>,
    second: vec4<u32>,
}

fn fetch_token(at: u32) -> Token {
    return Token(codes_at(2u * at), codes_at(2u * at + 1u));
}

// Bits of a word of each vec4.
fn token_bits(x: Token) -> u32 {
    return x.first.x | x.second.x;
}

// With the bits `by` of each word turned over.
fn changed(x: Token, by: u32) -> Token {
    return Token(x.first ^ vec4(by), x.second ^ vec4(by));
}

fn dot_word(low: u32, high: u32, word: u32) -> i32 {
    return dot_codes(low, low4_times_16(word)) + dot_codes(high, high4_times_16(word));
}

fn dot_quad(x: Token, w: vec4<u32>) -> i32 {
    let first = dot_word(x.first.x, x.first.y, w.x) + dot_word(x.first.z, x.first.w, w.y);
    return first + dot_word(x.second.x, x.second.y, w.z) + dot_word(x.second.z, x.second.w, w.w);
}
