// out = sum over spans s of scales[i, s] * weight_scales[j, s] * (int32 sum of codes[i, :] * weight[j, :] over s), then
// the epilogue (Xiao et al. 2022, arXiv:2211.10438). A span is the smaller of a group of codes and a group of weights.
// A thread makes 8 x 8 outputs (shared/tile.wgsl), one word of each operand, 4 codes, at a time. Any m, n, k; groups
// are whole words, or one group is the whole row.
#import tile
#import int_block
#import int_scales

struct Params {
    m: u32, // rows of codes
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a weight scale; a multiple of 4, or k
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of codes, likewise; one of the two divides the other
    slice: u32, // of the formats `rows`, `groups` and `tile_..`: columns whose sums are `m` rows of out by themselves; k for all
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<u32>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

fn code_words(row: u32, at: u32) -> vec4<u32> {
    let i = rows(row) * ((params.k + 3u) / 4u) + at;
    return vec4(codes[i.x], codes[i.y], codes[i.z], codes[i.w]);
}

fn weight_words(col: u32, at: u32) -> vec4<u32> {
    let i = columns(col) * ((params.k + 3u) / 4u) + at;
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
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
        let end = (min(first + span, params.k) + 3u) / 4u;
        for (var word = first / 4u; word < end; word++) {
            let w0 = weight_words(at.col, word);
            let w1 = weight_words(at.col + BLOCK, word);
            let x0 = code_words(at.row, word);
            let x1 = code_words(at.row + 4u, word);
            s00 = multiply_add(s00, x0, w0);
            s01 = multiply_add(s01, x0, w1);
            s10 = multiply_add(s10, x1, w0);
            s11 = multiply_add(s11, x1, w1);
        }
        let token0 = row_scales(at.row, first);
        let token1 = row_scales(at.row + 4u, first);
        let scale0 = column_scales(at.col, first);
        let scale1 = column_scales(at.col + BLOCK, first);
        a00 = add_scaled(a00, s00, token0, scale0);
        a01 = add_scaled(a01, s01, token0, scale1);
        a10 = add_scaled(a10, s10, token1, scale0);
        a11 = add_scaled(a11, s11, token1, scale1);
    }
    store_block(a00, at.row, at.col);
    store_block(a01, at.row, at.col + BLOCK);
    store_block(a10, at.row + 4u, at.col);
    store_block(a11, at.row + 4u, at.col + BLOCK);
}
