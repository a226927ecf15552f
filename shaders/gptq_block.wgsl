// GPTQ (Frantar et al. 2022, arXiv:2210.17323) on a block of up to 128 steps of every row, as Babai's nearest plane:
// with the inputs' second moments MᵀM, M lower triangular in the order of steps, step i rounds
// wanted[i] + adjusted[i] / M[i, i], where adjusted[i] is the sum over the steps k before of M[i, k] error[k]; an error
// is wanted - code * scale. The host adds what the blocks before left to `adjusted`; within the block it is done here.
// One workgroup: 8 rows. A thread: one step of them. Operations are exact and in order, so that codes are the same
// on every device.
#import index
#import exact
#import line_rows

struct Params {
    n: u32, // steps
    rows: u32,
    first: u32, // first step of the block
    width: u32, // steps of the block, at most 128
    top: f32, // codes are -top - 1 .. top
    zero: u32, // always 0, which no compiler knows
}

const WIDTH = 128u;
const ROWS = 8u;

@group(0) @binding(0) var<storage, read> wanted: array<f32>; // [n, rows]
@group(0) @binding(1) var<storage, read> adjusted: array<f32>; // [n, rows]
@group(0) @binding(2) var<storage, read> factor: array<f32>; // [n, n] M
@group(0) @binding(3) var<storage, read> steps: array<u32>; // [n, 2]: group, bits of 1 / M[i, i]
@group(0) @binding(4) var<storage, read> scales: array<f32>; // [2 groups, rows]: scale, then its reciprocal
@group(0) @binding(5) var<storage, read_write> codes: array<u32>; // [n, rows] int8
@group(0) @binding(6) var<storage, read_write> errors: array<f32>; // [width, rows]
@group(0) @binding(7) var<uniform> params: Params;

// Errors of the step at hand; of even and odd steps apart, so that one barrier a step will do.
var<workgroup> fed: array<vec4<f32>, 4>;

fn wanted4(i: vec4<u32>) -> vec4<f32> {
    return vec4(wanted[i.x], wanted[i.y], wanted[i.z], wanted[i.w]);
}

fn adjusted4(i: vec4<u32>) -> vec4<f32> {
    return vec4(adjusted[i.x], adjusted[i.y], adjusted[i.z], adjusted[i.w]);
}

fn rounded(wish: vec4<f32>, inverse: vec4<f32>) -> vec4<f32> {
    return clamp(round(wish * inverse), vec4(-params.top - 1.0), vec4(params.top));
}

fn put(step: u32, local: u32, row: u32, code: vec4<f32>, error: vec4<f32>) {
    if row >= params.rows {
        return;
    }
    let last = params.rows - row;
    let kept = select(vec4<i32>(), vec4<i32>(code), vec4(0u, 1u, 2u, 3u) < vec4(last));
    codes[step * ((params.rows + 3u) / 4u) + row / 4u] = pack4xI8(kept);
    for (var i = 0u; i < min(4u, last); i++) {
        errors[local * params.rows + row + i] = error[i];
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
    let step = params.first + min(thread, params.width - 1u);
    let group = steps[2u * step];
    let groups = arrayLength(&scales) / (2u * params.rows);
    let own_inverse = bitcast<f32>(steps[2u * step + 1u]);
    let at0 = four(step, row);
    let at1 = four(step, row + 4u);
    let w0 = wanted4(at0);
    let w1 = wanted4(at1);
    var x0 = adjusted4(at0);
    var x1 = adjusted4(at1);
    let s0 = scales4(four(group, row));
    let s1 = scales4(four(group, row + 4u));
    let r0 = scales4(four(groups + group, row));
    let r1 = scales4(four(groups + group, row + 4u));
    for (var i = 0u; i < params.width; i++) {
        let even = 2u * (i % 2u);
        if thread == i {
            let c0 = rounded(w0 + exactly(x0 * own_inverse), r0);
            let c1 = rounded(w1 + exactly(x1 * own_inverse), r1);
            let e0 = w0 - exactly(c0 * s0);
            let e1 = w1 - exactly(c1 * s1);
            fed[even] = e0;
            fed[even + 1u] = e1;
            put(step, i, row, c0, e0);
            put(step, i, row + 4u, c1, e1);
        }
        workgroupBarrier();
        if thread > i {
            let part = factor[step * params.n + params.first + i];
            x0 += exactly(part * fed[even]);
            x1 += exactly(part * fed[even + 1u]);
        }
    }
}
