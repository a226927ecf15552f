// After GPTQ, on a block of up to 128 columns of every row: a scale for each group by least squares, then the group's
// codes one at a time (coordinate descent, QuantEase, arXiv:2309.01885). `gradient` is the remaining error times the
// inputs' second moments; within the block it is kept up to date here, beyond it by the host from `changes`.
// One workgroup: 8 rows. A thread: one column of them. Sums are exact and in order, as the reference's.
#import index
#import exact
#import line_rows

struct Params {
    n: u32, // columns
    rows: u32,
    first: u32, // first column of the block
    width: u32, // columns of the block, at most 128
    group: u32, // columns a scale; where scales change, the block is whole groups
    form: u32, // scales: 0 stay, 1 codes times `units`, 2 f16, 3 bf16, 4 f32
    top_scale: f32, // largest code of a scale
    top: f32, // codes are -top - 1 .. top
    zero: u32, // always 0, which no compiler knows
}

const WIDTH = 128u;
const ROWS = 8u;
const CODED = 1u;
const F16 = 2u;
const BF16 = 3u;

@group(0) @binding(0) var<storage, read> gradient: array<f32>; // [n, rows]
@group(0) @binding(1) var<storage, read> moments: array<f32>; // [n, n]
@group(0) @binding(2) var<storage, read> units: array<f32>; // [rows]
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [groups, rows]
@group(0) @binding(4) var<storage, read_write> codes: array<u32>; // [n, rows] int8
@group(0) @binding(5) var<storage, read_write> changes: array<f32>; // [width, rows] of code * scale
@group(0) @binding(6) var<uniform> params: Params;

var<workgroup> shown: array<vec4<f32>, 2u * WIDTH>; // codes, then what they add along the gradient
var<workgroup> bends: array<vec4<f32>, 2u * WIDTH>; // what they add to the curvature
var<workgroup> moved: array<vec4<f32>, 4>; // the group's scale, then its change
var<workgroup> fed: array<vec4<f32>, 4>; // change of a column; even and odd ones apart

fn gradient4(i: vec4<u32>) -> vec4<f32> {
    return vec4(gradient[i.x], gradient[i.y], gradient[i.z], gradient[i.w]);
}

fn word(column: u32, row: u32) -> u32 {
    let words = (params.rows + 3u) / 4u;
    return column * words + min(row / 4u, words - 1u);
}

// To nearest, ties to even, as the host's conversions.
fn to_f16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    let normal = bitcast<f32>((bits + 0xfffu + ((bits >> 13u) & 1u)) & 0xffffe000u);
    return select(normal, round(x * 16777216.0) * 5.9604645e-8, x < 6.1035156e-5);
}

fn to_bf16(x: f32) -> f32 {
    let bits = bitcast<u32>(x);
    return bitcast<f32>((bits + 0x7fffu + ((bits >> 16u) & 1u)) & 0xffff0000u);
}

// The storable value nearest to `wish`, which is positive.
fn stored(wish: f32, unit: f32) -> f32 {
    if params.form == CODED {
        return clamp(round(wish / unit), 1.0, params.top_scale) * unit;
    }
    if params.form == F16 {
        return to_f16(wish);
    }
    if params.form == BF16 {
        return to_bf16(wish);
    }
    return wish;
}

// The scale of a row, `before`, moved by least squares.
fn moved_scale(before: f32, along: f32, bend: f32, row: u32) -> f32 {
    let wish = before + along / bend;
    // Above 0, and no larger than an f16 may be: not so after a division by 0.
    if bend > 0.0 && wish > 0.0 && wish < 65504.0 {
        let value = stored(wish, units[min(row, params.rows - 1u)]);
        return select(before, value, value > 0.0);
    }
    return before;
}

// Moves the scale of rows `row ..` by least squares over columns `start .. end` of the block.
fn move_scale(start: u32, end: u32, row: u32, part: u32) {
    var along = vec4(0.0);
    var bend = vec4(0.0);
    for (var i = start; i < end; i++) {
        along += shown[2u * i + part];
        bend += bends[2u * i + part];
    }
    let at = four((params.first + start) / params.group, row);
    let before = scales4(at);
    let low = vec2(moved_scale(before.x, along.x, bend.x, row), moved_scale(before.y, along.y, bend.y, row + 1u));
    let third = moved_scale(before.z, along.z, bend.z, row + 2u);
    let after = vec4(low, third, moved_scale(before.w, along.w, bend.w, row + 3u));
    for (var r = 0u; r < 4u; r++) {
        if row + r < params.rows {
            scales[at[r]] = after[r];
        }
    }
    moved[part] = after;
    moved[part + 2u] = after - before;
}

fn put(column: u32, local: u32, row: u32, code: vec4<f32>, change: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let last = params.rows - row;
    codes[word(column, row)] = pack4xI8(select(vec4<i32>(), vec4<i32>(code), vec4(0u, 1u, 2u, 3u) < vec4(last)));
    for (var i = 0u; i < min(4u, last); i++) {
        changes[local * params.rows + row + i] = change[i];
    }
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let row = linear_workgroup(workgroup, grid) * ROWS;
    if row >= params.rows {
        return;
    }
    let column = params.first + min(thread, params.width - 1u);
    let line = params.first * params.n + column; // from a row of the moments to the next: n
    let own = moments[column * params.n + column];
    let lines = array<vec4<u32>, 2>(four(column, row), four(column, row + 4u));
    var g0 = gradient4(lines[0]);
    var g1 = gradient4(lines[1]);
    var c0 = vec4<f32>(unpack4xI8(codes[word(column, row)]));
    var c1 = vec4<f32>(unpack4xI8(codes[word(column, row + 4u)]));
    var s0 = scales4(four(column / params.group, row));
    var s1 = scales4(four(column / params.group, row + 4u));
    let before0 = exactly(c0 * s0);
    let before1 = exactly(c1 * s1);
    let span = select(min(params.group, params.width), params.width, params.form == 0u);
    for (var start = 0u; start < params.width; start += span) {
        let end = min(start + span, params.width);
        let ours = thread >= start && thread < end;
        if params.form != 0u {
            shown[2u * thread] = c0;
            shown[2u * thread + 1u] = c1;
            workgroupBarrier();
            var m0 = vec4(0.0);
            var m1 = vec4(0.0);
            for (var i = start; i < end; i++) {
                m0 += exactly(moments[line + i * params.n] * shown[2u * i]);
                m1 += exactly(moments[line + i * params.n] * shown[2u * i + 1u]);
            }
            workgroupBarrier();
            shown[2u * thread] = exactly(c0 * g0);
            shown[2u * thread + 1u] = exactly(c1 * g1);
            bends[2u * thread] = exactly(c0 * m0);
            bends[2u * thread + 1u] = exactly(c1 * m1);
            workgroupBarrier();
            if thread < 2u {
                move_scale(start, end, row + 4u * thread, thread);
            }
            workgroupBarrier();
            g0 -= exactly(moved[2] * m0);
            g1 -= exactly(moved[3] * m1);
            if ours {
                s0 = moved[0];
                s1 = moved[1];
            }
        }
        for (var i = start; i < end; i++) {
            let even = 2u * (i % 2u);
            if thread == i {
                let n0 = clamp(round(c0 + g0 / (own * s0)), vec4(-params.top - 1.0), vec4(params.top));
                let n1 = clamp(round(c1 + g1 / (own * s1)), vec4(-params.top - 1.0), vec4(params.top));
                fed[even] = exactly((n0 - c0) * s0);
                fed[even + 1u] = exactly((n1 - c1) * s1);
                c0 = n0;
                c1 = n1;
            }
            workgroupBarrier();
            if thread > i {
                g0 -= exactly(moments[line + i * params.n] * fed[even]);
                g1 -= exactly(moments[line + i * params.n] * fed[even + 1u]);
            }
        }
    }
    if thread < params.width {
        put(column, thread, row, c0, exactly(c0 * s0) - before0);
        put(column, thread, row + 4u, c1, exactly(c1 * s1) - before1);
    }
}
