// Four numbers as the words of a tensor, f32 or with the word `halves` f16.

#ifdef halves halves_4096
alias Words = vec2<u32>;

fn quad_of(words: Words) -> vec4<f32> {
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn words_of(quad: vec4<f32>) -> Words {
    return vec2(pack2x16float(quad.xy), pack2x16float(quad.zw));
}
#else
alias Words = vec4<u32>;

fn quad_of(words: Words) -> vec4<f32> {
    return bitcast<vec4<f32>>(words);
}

fn words_of(quad: vec4<f32>) -> Words {
    return bitcast<vec4<u32>>(quad);
}
#endif
