// out = scales[i] * sum over groups of weight_scales[j, g] * (int32 sum of codes[i, :] * weight[j, :] over group g),
// then the epilogue (Xiao et al. 2022, arXiv:2211.10438). A thread makes 8 x 8 outputs (shared/tile.wgsl), one
// word of each operand, 4 codes, at a time. Any m, n, k; groups are whole words, or one group is the whole row.
#import tile
#import int_block

struct Params {
    m: u32, // rows of codes
    n: u32, // rows of weight
    k: u32, // columns of both
    group: u32, // columns a scale; a multiple of 4, or k
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
}

@group(0) @binding(0) var<storage, read> codes: array<u32>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m]
@group(0) @binding(2) var<storage, read> weight: array<u32>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<f32>; // [n, groups]
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [m, n]
@group(0) @binding(5) var<uniform> params: Params;

fn code_words(row: u32, at: u32) -> vec4<u32> {
    let i = rows(row) * ((params.k + 3u) / 4u) + at;
    return vec4(codes[i.x], codes[i.y], codes[i.z], codes[i.w]);
}

fn weight_words(col: u32, at: u32) -> vec4<u32> {
    let i = columns(col) * ((params.k + 3u) / 4u) + at;
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn column_scales(col: u32, groups: u32, group: u32) -> vec4<f32> {
    let i = columns(col) * groups + group;
    return vec4(weight_scales[i.x], weight_scales[i.y], weight_scales[i.z], weight_scales[i.w]);
}

fn row_scales(row: u32) -> vec4<f32> {
    let i = rows(row);
    return vec4(scales[i.x], scales[i.y], scales[i.z], scales[i.w]);
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
        var s00 = Sums();
        var s01 = Sums();
        var s10 = Sums();
        var s11 = Sums();
        let end = (min((g + 1u) * params.group, params.k) + 3u) / 4u;
        for (var word = g * params.group / 4u; word < end; word++) {
            let w0 = weight_words(at.col, word);
            let w1 = weight_words(at.col + BLOCK, word);
            let x0 = code_words(at.row, word);
            let x1 = code_words(at.row + 4u, word);
            s00 = multiply_add(s00, x0, w0);
            s01 = multiply_add(s01, x0, w1);
            s10 = multiply_add(s10, x1, w0);
            s11 = multiply_add(s11, x1, w1);
        }
        let scale0 = column_scales(at.col, groups, g);
        let scale1 = column_scales(at.col + BLOCK, groups, g);
        a00 += scale_columns(s00, scale0);
        a01 += scale_columns(s01, scale1);
        a10 += scale_columns(s10, scale0);
        a11 += scale_columns(s11, scale1);
    }
    let token0 = row_scales(at.row);
    let token1 = row_scales(at.row + 4u);
    store_block(scale_rows(a00, token0), at.row, at.col);
    store_block(scale_rows(a01, token0), at.row, at.col + BLOCK);
    store_block(scale_rows(a10, token1), at.row + 4u, at.col);
    store_block(scale_rows(a11, token1), at.row + 4u, at.col + BLOCK);
}
