// matmul_w8a8 on cooperative matrices (shared/coop_rows.wgsl; of fewer rows, the formats `tile_..`, shared/coop_wide.wgsl), where rows of both operands have one scale, or of the
// formats `groups` and `tile_..` several that are short (kernels::ScaleBits), in groups of whole 32 columns: k a multiple of 16, n and the columns of out of 4, any m.
#ifdef rows groups
#import coop_rows
#else
#import coop_wide
#endif
#import row_factors

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

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int8
@group(0) @binding(3) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

#ifdef rows groups
// 16 codes of a row, and the word that their scale is in.
struct Line {
    words: vec4<u32>,
    scale: u32,
}

// 16 codes, and their scale over the row's factor (shared/row_factors.wgsl).
struct Weights {
    words: vec4<u32>,
    scale: f32,
}

fn fetch_line(row: u32, col: u32) -> Line {
    let words = weight[min(row, params.n - 1u) * (params.k / 16u) + min(col, params.k - 16u) / 16u];
#ifdef groups
    return Line(words, group_scale_word(row, col / params.group));
#else
    return Line(words, 0u);
#endif
}

fn line_bits(line: Line) -> vec4<u32> {
    return line.words ^ vec4(line.scale);
}

// Zeros beyond the last column.
fn ready(line: Line, row: u32, col: u32) -> Weights {
    return Weights(line.words & vec4(mask_of(col)), scale_left(line.scale, row));
}

fn weights_of(weights: Weights, step: u32) -> vec4<f16> {
#ifdef groups
    return halves8(weights.words[step]) * vec4(f16(weights.scale));
#else
    return halves8(weights.words[step]);
#endif
}
#else
// 32 codes of a row.
struct Line {
    first: vec4<u32>,
    second: vec4<u32>,
}

fn fetch_line(row: u32, col: u32) -> Line {
    let at = min(row, params.n - 1u) * (params.k / 16u);
    let last = params.k / 16u - 1u;
    return Line(weight[at + min(col / 16u, last)], weight[at + min(col / 16u + 1u, last)]);
}

// Zeros beyond the last column.
fn inside(line: Line, col: u32) -> Line {
    return Line(line.first & vec4(mask_of(col)), line.second & vec4(mask_of(col + 16u)));
}

fn line_bits(line: Line) -> vec4<u32> {
    return line.first ^ line.second;
}

// Of rows with several scales.
fn line_scale(row: u32, col: u32) -> f32 {
    if params.group < params.k {
        return scale_left(group_scale_word(row, col / params.group), row);
    }
    return 1.0;
}

// Codes 4 step.. of each 16, four of either.
fn stage_line(at: u32, line: Line, step: u32, scale: f32) {
    var first = halves8(word_of(line.first, step));
    var second = halves8(word_of(line.second, step));
    if params.group < params.k {
        first *= vec4(f16(scale));
        second *= vec4(f16(scale));
    }
    tile_w[at] = first;
    tile_w[at + 1u] = second;
}
#endif

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
