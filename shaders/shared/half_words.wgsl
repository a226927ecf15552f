// f16 numbers, two a word. Those beyond the range become the last in it.

fn halves4(words: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn words_of(x: vec4<f32>) -> vec2<u32> {
    let within = clamp(x, vec4(-65504.0), vec4(65504.0));
    return vec2(pack2x16float(within.xy), pack2x16float(within.zw));
}
