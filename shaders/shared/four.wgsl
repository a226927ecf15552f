// Four numbers of a tensor, next to each other: f32, or f16 where the word of the format begins with `half`.
#ifdef half half_blocks half_short half_short_norms half_long half_long_norms
#import half_words

alias Four = vec2<u32>;

fn four(values: Four) -> vec4<f32> {
    return halves4(values);
}

fn four_of(values: vec4<f32>) -> Four {
    return words_of(values);
}
#else
alias Four = vec4<u32>;

fn four(values: Four) -> vec4<f32> {
    return bitcast<vec4<f32>>(values);
}

fn four_of(values: vec4<f32>) -> Four {
    return bitcast<vec4<u32>>(values);
}
#endif
