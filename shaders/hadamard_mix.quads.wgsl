// out = scale * H x for a dense matrix H of signs: x is [outer, order, stride], and H mixes its middle axis.
// A workgroup makes 64 vectors, 96 rows of H at a time. Of each four elements of a vector it makes the 8 sums with signs whose last
// sign is +, in workgroup memory: the other 8 are their negatives. So a row takes one read and one FMA for four products, and a
// thread reads four vectors at once.
#import index

struct Params {
    count: u32, // elements
    order: u32,
    stride: u32,
    scale: f32,
}

const WG = 256u;
const LANES = 16u; // threads of a row: each has four vectors
const VECTORS = 64u;
const ROWS = 96u; // 6 a thread, LANES apart

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [outer, order, stride]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>; // [outer, order, stride]
@group(0) @binding(3) var<uniform> params: Params;

// Of 32 elements, by fours: the sums with the signs of the bits 0 to 7. [8, 8, LANES]
var<workgroup> sums: array<vec4<f32>, 1024>;

// Element `column` of four vectors; 0 beyond the last.
fn fetch(first: u32, column: u32) -> vec4<f32> {
    let value = x[first + min(column, params.order - 1u) * (params.stride / 4u)];
    return select(vec4(0.0), value, column < params.order);
}

fn fetch4(first: u32, column: u32) -> mat4x4<f32> {
    return mat4x4(fetch(first, column), fetch(first, column + 1u), fetch(first, column + 2u), fetch(first, column + 3u));
}

// The sums of elements whose third has the sign `third`.
fn put4(at: u32, v: mat4x4<f32>, third: f32) {
    let far = fma(v[2], vec4(third), v[3]);
    let sum = v[0] + v[1];
    let difference = v[1] - v[0];
    sums[at] = far + sum;
    sums[at + LANES] = far + difference;
    sums[at + 2u * LANES] = far - difference;
    sums[at + 3u * LANES] = far - sum;
}

// 32 signs of a row, clamped. Where the last of a four is -, the other three are turned.
fn word_of(row: u32, word: u32) -> u32 {
    let bits = signs[min(row, params.order - 1u) * ((params.order + 31u) / 32u) + word];
    return bits ^ (((bits >> 3u) & 0x11111111u) * 7u);
}

// With the sum of four elements that the low bits of a word choose.
fn plus(made: vec4<f32>, bits: u32, at: u32) -> vec4<f32> {
    let sign = bitcast<f32>(((bits << 28u) & 0x80000000u) | 0x3f800000u);
    return fma(sums[at + (bits & 7u) * LANES], vec4(sign), made);
}

fn put(row: u32, first: u32, v: vec4<f32>) {
    if row < params.order {
        out[first + row * (params.stride / 4u)] = v * params.scale;
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let vectors = params.count / params.order;
    let block = linear_workgroup(workgroup, grid) * VECTORS;
    if block >= vectors {
        return;
    }
    let lane = thread % LANES;
    let team = thread / LANES;
    let own = block / 4u + lane;
    let quads = params.stride / 4u; // of vectors
    let quad = min(own, vectors / 4u - 1u);
    let first = (quad / quads) * params.order * quads + quad % quads;
    // The fours, and the half of their sums, that a thread makes.
    let source = team / 2u * 4u;
    let to = (team / 2u * 8u + team % 2u * 4u) * LANES + lane;
    let third = select(1.0, -1.0, team % 2u == 1u);
    for (var base = 0u; base < params.order; base += ROWS) {
        let row = base + team;
        var a = vec4(0.0);
        var b = vec4(0.0);
        var c = vec4(0.0);
        var d = vec4(0.0);
        var e = vec4(0.0);
        var f = vec4(0.0);
        var next = fetch4(first, source);
        for (var word = 0u; word < (params.order + 31u) / 32u; word++) {
            put4(to, next, third);
            workgroupBarrier();
            next = fetch4(first, 32u * word + 32u + source); // under way while this step computes
            var near = vec3(word_of(row, word), word_of(row + 16u, word), word_of(row + 32u, word));
            var far = vec3(word_of(row + 48u, word), word_of(row + 64u, word), word_of(row + 80u, word));
            let end = min(8u, (params.order - 32u * word + 3u) / 4u) * 8u * LANES;
            for (var at = lane; at < end; at += 8u * LANES) {
                a = plus(a, near.x, at);
                b = plus(b, near.y, at);
                c = plus(c, near.z, at);
                d = plus(d, far.x, at);
                e = plus(e, far.y, at);
                if row + 80u < params.order {
                    f = plus(f, far.z, at);
                }
                near >>= vec3(4u);
                far >>= vec3(4u);
            }
            workgroupBarrier();
        }
        if own < vectors / 4u {
            put(row, first, a);
            put(row + 16u, first, b);
            put(row + 32u, first, c);
            put(row + 48u, first, d);
            put(row + 64u, first, e);
            put(row + 80u, first, f);
        }
    }
}
