// RMS norm of one token (as rms_norm_quantize), and the product of its codes with a weight (as matvec_w4a8 and
// matvec_w8a8), in one launch (shared/made_token.wgsl).
#import index
#import made_token
#import top

struct Params {
    n: u32, // rows of weight
    cols: u32, // at most MOST
    group: u32, // columns a weight scale
    scale_bits: u32, // of a weight scale: 16 or 32
    x_group: u32, // columns a scale of the token
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    eps: f32,
}

const MOST = 8192u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [1, cols]
@group(0) @binding(1) var<storage, read> norm: array<vec4<f32>>; // [cols]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [n, cols] int4 or int8
@group(0) @binding(3) var<storage, read> weight_scales: array<vec2<u32>>; // [ceil(n / 4), groups, 4] bf16 or f32
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [1, n]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> found: array<vec2<f32>, TEAMS>; // of each team: sum of squares, largest of x times norm

// Four quads of x, and those times the norm's weight.
struct Four {
    x: mat4x4<f32>,
    v: mat4x4<f32>,
}

// Quads of the row; beyond its end the last again.
fn fetch(spots: vec4<u32>) -> Four {
    let at = min(spots, vec4(params.cols / 4u - 1u));
    let quads = mat4x4(x[at.x], x[at.y], x[at.z], x[at.w]);
    return Four(quads, mat4x4(quads[0] * norm[at.x], quads[1] * norm[at.y], quads[2] * norm[at.z], quads[3] * norm[at.w]));
}

// Which of those are in the row.
fn within(spots: vec4<u32>) -> vec4<bool> {
    return spots < vec4(params.cols / 4u);
}

// Largest magnitudes of quads that are there, of their products with the norm's weight.
fn tops(four: Four, spots: vec4<u32>) -> vec4<f32> {
    let v = four.v;
    return select(vec4(0.0), vec4(top(v[0]), top(v[1]), top(v[2]), top(v[3])), within(spots));
}

// Sum of squares, and largest product with the norm's weight, of quads that are there.
fn seen(four: Four, spots: vec4<u32>) -> vec2<f32> {
    let q = four.x;
    let squares = vec4(dot(q[0], q[0]), dot(q[1], q[1]), dot(q[2], q[2]), dot(q[3], q[3]));
    return vec2(dot(select(vec4(0.0), vec4(1.0), within(spots)), squares), top(tops(four, spots)));
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let first = ROWS * linear_workgroup(workgroup, grid);
    if first >= params.n {
        return;
    }
    let near = place.thread + vec4(0u, 256u, 512u, 768u);
    let far = near + 1024u;
    let two = params.cols > 4096u;
    let a = fetch(near);
    var b = Four();
    if two {
        b = fetch(far);
    }
    let low = seen(a, near);
    let high = seen(b, far);
    found[warp_of(place)] = vec2(warp_sum(low.x + high.x, place), warp_max(max(low.y, high.y), place));
    workgroupBarrier();
    var all = found[0];
    for (var i = 1u; i < TEAMS; i++) {
        all = vec2(all.x + found[i].x, max(all.y, found[i].y));
    }
    let factor = inverseSqrt(all.x / f32(params.cols) + params.eps);
    if params.x_group < params.cols {
        put_groups(near, a.v * factor, within(near), tops(a, near) * factor, place);
        if two {
            put_groups(far, b.v * factor, within(far), tops(b, far) * factor, place);
        }
    } else {
        // The norm's factor is one for the row, so the codes are those of v.
        let largest = all.y * factor;
        let inverse = inverse_of(largest) * factor;
        put_whole(near, a.v, within(near), inverse);
        if two {
            put_whole(far, b.v, within(far), inverse);
        }
        if place.thread == 0u {
            token_scales[0] = scale_of(largest);
        }
    }
    make_outputs(first, place);
}
