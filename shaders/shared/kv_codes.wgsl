// Where the codes of a key/value cache are; the twin of src/reference/kv.rs. A cache of
// [sequences * max, kv_heads] rows is the rows' code words (see pack.wgsl), then as many rows of scales, f32 as bits. f16 are
// codes of 16 bits without scales. The importing shader has `params`.

#ifdef half half_scalars
const CODES = 2u; // of a word
#endif
#ifdef int8 int8_blocks int8_scalars
const CODES = 4u; // of a word
const SPAN = 64u; // words that share a scale, a whole head: it has 256 elements at most
#endif
#ifdef int4 int4_scalars
const CODES = 8u;
const SPAN = 4u; // 32 elements
#endif

fn row_words() -> u32 {
    return (params.head_dim + CODES - 1u) / CODES;
}

// Place of a word of codes.
fn code_at(row: u32, word: u32) -> u32 {
    return row * row_words() + word;
}

#ifdef int8 int8_blocks int8_scalars int4 int4_scalars
// Place of the scale of that word's codes.
fn scale_at(row: u32, word: u32) -> u32 {
    let words = row_words();
    return params.sequences * params.max * params.kv_heads * words + row * ((words + SPAN - 1u) / SPAN) + word / SPAN;
}
#endif
