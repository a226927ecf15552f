// out = x · (weight * weight_scales)ᵀ, int4 weights dequantized in registers, f32 products and sums, then the
// epilogue (weight-only: Frantar et al. 2022, arXiv:2210.17323). A thread makes 8 x 8 outputs (shared/tile.wgsl),
// one weight word, 8 codes, at a time. Any m, n, k; groups are whole weight words, or one group is the whole row.
#import tile
#import pack
#import weight_scale

struct Params {
    m: u32, // rows of x
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a scale; a multiple of 8, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

@group(0) @binding(0) var<storage, read> x: array<f32>; // [m, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k] int4
@group(0) @binding(2) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(3) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(4) var<uniform> params: Params;

fn x4(row: u32, k: u32) -> vec4<f32> {
    // Beyond the end the weight codes are zero; any x of the row serves.
    let i = vec4(row * params.k) + min(vec4(k, k + 1u, k + 2u, k + 3u), vec4(params.k - 1u));
    return vec4(x[i.x], x[i.y], x[i.z], x[i.w]);
}

// 4 rows of x, one a column.
fn x_block(row: u32, k: u32) -> mat4x4<f32> {
    let r = rows(row);
    return mat4x4(x4(r.x, k), x4(r.y, k), x4(r.z, k), x4(r.w, k));
}

fn weight_words(col: u32, at: u32) -> vec4<u32> {
    let i = columns(col) * ((params.k + 7u) / 8u) + at;
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

// The codes in the low nibbles (0..3) of 4 weight rows, one a row, times their scales.
fn dequantized(words: vec4<u32>, scale: vec4<f32>) -> mat4x4<f32> {
    return transpose(mat4x4(
        vec4<f32>(codes4_low(words.x)) * scale.x,
        vec4<f32>(codes4_low(words.y)) * scale.y,
        vec4<f32>(codes4_low(words.z)) * scale.z,
        vec4<f32>(codes4_low(words.w)) * scale.w,
    ));
}

@compute @workgroup_size(SIDE, SIDE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_id) thread: vec3<u32>) {
    let at = corner(workgroup, thread);
    if at.row >= params.m {
        return;
    }
    let groups = (params.k + params.group - 1u) / params.group;
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    for (var g = 0u; g < groups; g++) {
        let scale0 = scales_of_rows(columns(at.col), groups, g);
        let scale1 = scales_of_rows(columns(at.col + BLOCK), groups, g);
        let end = (min((g + 1u) * params.group, params.k) + 7u) / 8u;
        for (var word = g * params.group / 8u; word < end; word++) {
            let w0 = weight_words(at.col, word);
            let w1 = weight_words(at.col + BLOCK, word);
            // Low nibbles, then high ones: codes 0..3 and 4..7.
            for (var half = 0u; half < 8u; half += 4u) {
                let d0 = dequantized(w0 >> vec4(half), scale0);
                let d1 = dequantized(w1 >> vec4(half), scale1);
                let x0 = x_block(at.row, 8u * word + half);
                let x1 = x_block(at.row + 4u, 8u * word + half);
                a00 += d0 * x0;
                a01 += d1 * x0;
                a10 += d0 * x1;
                a11 += d1 * x1;
            }
        }
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
