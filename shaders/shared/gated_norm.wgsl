// The end of a Mamba-2 mixer up to the codes of its last product, of rows whose norms are over whole 128 columns, up to 1536, and of which
// there are 8 at most: gate, norm and transform, in registers. A subgroup of 32 threads takes one norm, of which a thread holds each
// 32nd quad, so nobody waits for others. The importing shader has `params` with cols, norm_group, eps, log_run and unit,
// the bindings `y` and `gate`, and `norm_weight`, a quad of the norm's weight.
#import butterflies
#import float
#import four
#import top
#import warps

// 12 quads of a thread, four a column: of its norm's columns the quads lane + 32 i.
struct Values {
    a: mat4x4<f32>,
    b: mat4x4<f32>,
    c: mat4x4<f32>,
}

// Where a thread's quads are: the first in a row, and how many there are.
struct Spot {
    quad: u32,
    count: u32,
}

// Quads of a row, gated, normed and turned, and where they are; a thread whose subgroup has no norm has none.
struct Normed {
    v: Values,
    own: Spot,
}

// Of quads from the thread's `i`th on; beyond its last the last again.
fn spots(spot: Spot, i: u32) -> vec4<u32> {
    return spot.quad + 32u * min(i + vec4(0u, 1u, 2u, 3u), vec4(spot.count - 1u));
}

// 1 for quads that are there, else 0.
fn there(spot: Spot, i: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), i + vec4(0u, 1u, 2u, 3u) < vec4(spot.count));
}

fn values(i: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(four(y[i.x]), four(y[i.y]), four(y[i.z]), four(y[i.w]));
}

fn gates(i: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(gate[i.x], gate[i.y], gate[i.z], gate[i.w]);
}

fn weights(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(norm_weight(at.x), norm_weight(at.y), norm_weight(at.z), norm_weight(at.w));
}

fn times(a: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]);
}

fn silu4(z: vec4<f32>) -> vec4<f32> {
    return vec4(silu(z.x), silu(z.y), silu(z.z), silu(z.w));
}

fn gated(v: mat4x4<f32>, z: mat4x4<f32>) -> mat4x4<f32> {
    return times(v, mat4x4(silu4(z[0]), silu4(z[1]), silu4(z[2]), silu4(z[3])));
}

fn squares(m: mat4x4<f32>, is_there: vec4<f32>) -> f32 {
    return dot(is_there, vec4(dot(m[0], m[0]), dot(m[1], m[1]), dot(m[2], m[2]), dot(m[3], m[3])));
}

// Largest magnitude of each quad, 0 of those that are not there.
fn tops(m: mat4x4<f32>, is_there: vec4<f32>) -> vec4<f32> {
    return is_there * vec4(top(m[0]), top(m[1]), top(m[2]), top(m[3]));
}

// The thread's largest.
fn most(normed: Normed) -> f32 {
    let own = normed.own;
    let low = max(tops(normed.v.a, there(own, 0u)), tops(normed.v.b, there(own, 4u)));
    return top(max(low, tops(normed.v.c, there(own, 8u))));
}

// Columns are 128 elements apart.
fn transformed(m: mat4x4<f32>, place: Place) -> mat4x4<f32> {
    var v = butterflies(m, vec4(0u, 1u, 7u, 8u), params.log_run);
    for (var level = 2u; level < min(params.log_run, 7u); level++) {
        v = crossed(v, 1u << (level - 2u), place);
    }
    return v * params.unit;
}

// A row whose first quads are y_quad and gate_quad of their tensors.
fn gated_norm(y_quad: u32, gate_quad: u32, place: Place) -> Normed {
    let warp = warp_of(place);
    let mine = warp * params.norm_group < params.cols;
    // A subgroup without a norm takes the first one's, and keeps it to itself.
    let spot = Spot(select(0u, warp * params.norm_group / 4u, mine) + lane_of(place), params.norm_group / 128u);
    let a = spots(spot, 0u);
    let b = spots(spot, 4u);
    let c = spots(spot, 8u);
    let two = params.norm_group > 512u;
    let three = params.norm_group > 1024u;
    var v = Values(values(y_quad + a), mat4x4<f32>(), mat4x4<f32>());
    var z = Values(gates(gate_quad + a), mat4x4<f32>(), mat4x4<f32>());
    var w = Values(weights(a), mat4x4<f32>(), mat4x4<f32>());
    if two {
        v.b = values(y_quad + b);
        z.b = gates(gate_quad + b);
        w.b = weights(b);
    }
    if three {
        v.c = values(y_quad + c);
        z.c = gates(gate_quad + c);
        w.c = weights(c);
    }
    v = Values(gated(v.a, z.a), gated(v.b, z.b), gated(v.c, z.c));
    let sum = squares(v.a, there(spot, 0u)) + squares(v.b, there(spot, 4u)) + squares(v.c, there(spot, 8u));
    let scale = inverseSqrt(warp_sum(sum, place) / f32(params.norm_group) + params.eps);
    v.a = transformed(times(v.a * scale, w.a), place);
    if two {
        v.b = transformed(times(v.b * scale, w.b), place);
    }
    if three {
        v.c = transformed(times(v.c * scale, w.c), place);
    }
    if params.log_run == 10u {
        v = Values(v.a + v.b, v.a - v.b, v.c);
    }
    return Normed(v, Spot(spot.quad, select(0u, spot.count, mine)));
}
