// As matmul_w8a8 with int4 weights (QServe's W4A8, Lin et al. 2024, arXiv:2405.04532, with symmetric groups): a word
// of 8 weight codes becomes two words of int8 codes 16 times too large (shared/pack.wgsl), and the int32 sums are
// shifted right by 4, exactly, at the end of a span. Any m, n, k; groups are whole weight words, or the whole row.
#import tile
#import int_block
#import int_scales
#import pack

struct Params {
    m: u32, // rows of codes
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a weight scale; a multiple of 8, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    slice: u32, // of the formats `rows`, `half_tiles`, `groups` and `tile_..`: columns whose sums are `m` rows of out by themselves; k for all
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<u32>; // [n, k] int4
@group(0) @binding(3) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

fn code_words(row: u32, at: u32) -> vec4<u32> {
    // A row's last weight word may have no second word of codes; the weights there are zero.
    let words = (params.k + 3u) / 4u;
    let i = rows(row) * words + min(at, words - 1u);
    return vec4(codes[i.x], codes[i.y], codes[i.z], codes[i.w]);
}

fn weight_words(col: u32, at: u32) -> vec4<u32> {
    let i = columns(col) * ((params.k + 7u) / 8u) + at;
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// Codes 0..3 and 4..7 of each word, 16 times their value.
fn low(words: vec4<u32>) -> vec4<u32> {
    return vec4(low4_times_16(words.x), low4_times_16(words.y), low4_times_16(words.z), low4_times_16(words.w));
}

fn high(words: vec4<u32>) -> vec4<u32> {
    return vec4(high4_times_16(words.x), high4_times_16(words.y), high4_times_16(words.z), high4_times_16(words.w));
}

fn sixteenth(sums: Sums) -> Sums {
    let four = vec4(4u);
    return Sums(sums[0] >> four, sums[1] >> four, sums[2] >> four, sums[3] >> four);
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    let at = corner(workgroup, thread);
    if at.row >= params.m {
        return;
    }
    let span = min(params.group, params.x_group);
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    for (var first = 0u; first < params.k; first += span) {
        var s00 = Sums();
        var s01 = Sums();
        var s10 = Sums();
        var s11 = Sums();
        let end = (min(first + span, params.k) + 7u) / 8u;
        for (var word = first / 8u; word < end; word++) {
            let w0 = weight_words(at.col, word);
            let w1 = weight_words(at.col + BLOCK, word);
            let x0 = code_words(at.row, 2u * word);
            let x1 = code_words(at.row + 4u, 2u * word);
            s00 = multiply_add(s00, x0, low(w0));
            s01 = multiply_add(s01, x0, low(w1));
            s10 = multiply_add(s10, x1, low(w0));
            s11 = multiply_add(s11, x1, low(w1));
            let y0 = code_words(at.row, 2u * word + 1u);
            let y1 = code_words(at.row + 4u, 2u * word + 1u);
            s00 = multiply_add(s00, y0, high(w0));
            s01 = multiply_add(s01, y0, high(w1));
            s10 = multiply_add(s10, y1, high(w0));
            s11 = multiply_add(s11, y1, high(w1));
        }
        let token0 = row_scales(at.row, first);
        let token1 = row_scales(at.row + 4u, first);
        let scale0 = column_scales(at.col, first);
        let scale1 = column_scales(at.col + BLOCK, first);
        a00 = add_scaled(a00, sixteenth(s00), token0, scale0);
        a01 = add_scaled(a01, sixteenth(s01), token0, scale1);
        a10 = add_scaled(a10, sixteenth(s10), token1, scale0);
        a11 = add_scaled(a11, sixteenth(s11), token1, scale1);
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
