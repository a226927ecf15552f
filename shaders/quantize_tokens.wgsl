// Symmetric int8 codes of each group of a row with a scale of its own: scale = max|x| / 127, code = round(x / scale),
// ties to even, within +-127 (dynamic quantization per token, Yao et al. 2022, arXiv:2206.01861; per group of a token,
// Zhao et al. 2023, arXiv:2310.19102). Where a row has several scales, they are rounded up to 4 significant bits. A row whose
// largest value is below 1e-35 has scale 1, it and such groups have codes 0. A team of threads makes a group, a thread taking
// every team-th word of 4 codes; a workgroup has WG / team groups of one row. Rows of whole quads: quantize_tokens.quads.wgsl.
#import index
#import int8_codes
#import reduce
#import top

struct Params {
    rows: u32,
    cols: u32,
    group: u32, // columns a scale; a multiple of 4, or cols
}

const WG = 64u;

@group(0) @binding(0) var<storage, read> x: array<f32>; // [rows, cols]
@group(0) @binding(1) var<storage, read_write> codes: array<u32>; // [rows, cols] int8
@group(0) @binding(2) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(3) var<uniform> params: Params;

fn value(start: u32, col: u32) -> f32 {
    return select(x[start + min(col, params.cols - 1u)], 0.0, col >= params.cols);
}

// The largest value of the thread's team. Every thread of the workgroup must call it.
fn team_max(value: f32, team: u32, place: Place) -> f32 {
    if team == WG {
        return workgroup_max(value, place);
    }
    let member = place.thread % team;
    reduce_scratch[place.thread] = value;
    for (var half = team / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if member < half {
            reduce_scratch[place.thread] = max(reduce_scratch[place.thread], reduce_scratch[place.thread + half]);
        }
    }
    workgroupBarrier();
    return reduce_scratch[place.thread - member];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let groups = (params.cols + params.group - 1u) / params.group;
    // A thread a word, as a power of two.
    let team = min(WG, 1u << (32u - countLeadingZeros((params.group + 3u) / 4u - 1u)));
    let teams = WG / team;
    let bundles = (groups + teams - 1u) / teams; // workgroups a row
    let bundle = linear_workgroup(workgroup, grid);
    let row = bundle / bundles;
    if row >= params.rows {
        return;
    }
    let group = bundle % bundles * teams + place.thread / team;
    let member = place.thread % team;
    let start = row * params.cols;
    let first = group * params.group;
    // A group beyond the last has no columns.
    let end = select(0u, min(first + params.group, params.cols), group < groups);
    var largest = 0.0;
    for (var c = first + member; c < end; c += team) {
        largest = max(largest, magnitude(x[start + c]));
    }
    largest = team_max(largest, team, place);
    let whole = params.group == params.cols;
    let inverse = select(group_inverse_of(largest), inverse_of(largest), whole);
    for (var word = first / 4u + member; word < (end + 3u) / 4u; word += team) {
        let c = 4u * word;
        let v = vec4(value(start, c), value(start, c + 1u), value(start, c + 2u), value(start, c + 3u));
        codes[row * ((params.cols + 3u) / 4u) + word] = codes_of(v, inverse);
    }
    if member == 0u && group < groups {
        scales[row * groups + group] = select(group_scale_of(largest), scale_of(largest), whole);
    }
}
