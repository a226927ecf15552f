// matmul_w4a8 on cooperative matrices (shared/coop_rows.wgsl; of fewer rows, the formats `tile_..`, shared/coop_wide.wgsl), where each row of codes has one scale (of the format
// `groups` several of at most 4 significant bits, too), and each row of the weight one, or several of at most 8 significant
// bits, as bf16 has: k and groups multiples of 32, n and the columns of out of 4, any m. A weight's code has 3 bits beside its sign, so code times
// such a scale has 11, as f16 has; a code of 8 bits has 7.
#ifdef rows half_tiles groups
#import coop_rows
#else
#import coop_wide
#endif
#import row_factors

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

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>; // [m, k] int8
@group(0) @binding(1) var<storage, read> scales: array<f32>; // [m, x_groups]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, k] int4
@group(0) @binding(3) var<storage, read> weight_scales: array<u32>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [m, out_stride]
@group(0) @binding(5) var<uniform> params: Params;

#ifdef rows half_tiles groups
// 32 codes of a row, and the word that their scale is in. Two threads load the same ones.
struct Line {
    words: vec4<u32>,
    scale: u32,
}

// 16 codes, and their scale over the row's factor (shared/row_factors.wgsl).
struct Weights {
    words: vec2<u32>,
    scale: f32,
}

fn fetch_line(row: u32, col: u32) -> Line {
    let words = weight[min(row, params.n - 1u) * (params.k / 32u) + min(col / 32u, params.k / 32u - 1u)];
    return Line(words, group_scale_word(row, col / params.group));
}

fn line_bits(line: Line) -> vec4<u32> {
    return line.words ^ vec4(line.scale);
}

// Zeros beyond the last column.
fn ready(line: Line, row: u32, col: u32) -> Weights {
    let words = select(line.words.xy, line.words.zw, col % 32u >= 16u) & vec2(mask_of(col));
    return Weights(words, scale_left(line.scale, row));
}

fn weights_of(weights: Weights, step: u32) -> vec4<f16> {
    return halves4(weights.words[step / 2u] >> (step % 2u * 4u)) * vec4(f16(weights.scale));
}
#else
// 32 codes of a row.
alias Line = vec4<u32>;

fn fetch_line(row: u32, col: u32) -> Line {
    return weight[min(row, params.n - 1u) * (params.k / 32u) + min(col / 32u, params.k / 32u - 1u)];
}

// Zeros beyond the last column.
fn inside(line: Line, col: u32) -> Line {
    return line & vec4(mask_of(col));
}

fn line_bits(line: Line) -> vec4<u32> {
    return line;
}

fn line_scale(row: u32, col: u32) -> f32 {
    return scale_left(group_scale_word(row, col / params.group), row);
}

// Codes 4 step.. of each 16, four of either.
fn stage_line(at: u32, line: Line, step: u32, scale: f32) {
    let words = select(line.xz, line.yw, vec2(step >= 2u)) >> vec2(step % 2u * 4u);
    tile_w[at] = halves4(words.x) * vec4(f16(scale));
    tile_w[at + 1u] = halves4(words.y) * vec4(f16(scale));
}
#endif

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) grid: vec3<u32>, place: Place) {
    product(workgroup, grid, place);
}
