// hadamard_mix_quantize.wgsl on cooperative matrices: the dense factor is a product with a matrix of signs, which are f16, as
// are the two halves of a number of 22 bits (shared/first_bits.wgsl). Numbers are scaled by a power of two before, so that the
// largest of a row is as large as it may be. A workgroup makes several rows, where there are many.
//
// Of the six bits of a quad's place in its run, u = 16 a + 4 b + q, thread (run, q) holds all a and b, so all levels but those
// of q need no other thread. Part a of the row goes through workgroup memory: in as [run, place of (b, q)], out as sums
// [row of H, same place], of which a thread takes all q of one b. Registers hold the row all along: first x, then v.
#import butterflies
#import first_bits
#import index
#import int8_codes
#import matrices
#import reduce_in

struct Params {
    rows: u32,
    order: u32, // runs of 256 columns, at most 96
    unit: f32, // scale of the transform
    group: u32, // columns a scale: 16, 32, 64, 128, 256 or all
}

const WG = 384u;
const RUN = 64u; // quads
const PITCH = 18u; // vec4s from a row of the tile to the next: 16, padded against bank conflicts
const SUMS = 17u; // likewise, of the sums
const MANY = 1024u; // rows, of which a workgroup makes EACH
const EACH = 4u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>; // [rows, 256 order]
@group(0) @binding(1) var<storage, read> signs: array<u32>; // [order, order / 32] bits of a row, rounded up; 1 for -1
@group(0) @binding(2) var<storage, read_write> codes: array<vec4<u32>>; // [rows, 256 order] int8
@group(0) @binding(3) var<storage, read_write> scales: array<f32>; // [rows, groups]
@group(0) @binding(4) var<uniform> params: Params;

var<workgroup> tile: array<vec4<f16>, 96u * PITCH>;
var<workgroup> sums: array<vec4<f32>, 96u * SUMS>;
var<workgroup> reduce_scratch: array<f32, 64>;

// Four signs from the low bits; 0 beyond the order.
fn sign4(bits: u32, column: u32) -> vec4<f16> {
    let columns = column + vec4(0u, 1u, 2u, 3u);
    let negative = (vec4(bits) & vec4(1u, 2u, 4u, 8u)) != vec4(0u);
    return select(vec4<f16>(), select(vec4(1h), vec4(-1h), negative), columns < vec4(params.order));
}

// Columns 64 half.. of H, 16 of a row a thread.
fn stage_signs(thread: u32, half: u32) {
    let words = (params.order + 31u) / 32u;
    let row = thread / 4u;
    let column = 64u * half + thread % 4u * 16u;
    let word = signs[min(row, params.order - 1u) * words + min(column / 32u, words - 1u)] >> (column % 32u);
    for (var i = 0u; i < 4u; i++) {
        let four = sign4(word >> (4u * i), column + 4u * i);
        tile[row * PITCH + thread % 4u * 4u + i] = select(vec4<f16>(), four, row < params.order);
    }
}

// 16 rows of signs.
struct Factors {
    f0: Left,
    f1: Left,
    f2: Left,
    f3: Left,
    f4: Left,
    f5: Left,
}

fn left(at: u32) -> Left {
    return coopLoadT<Left>(&tile[at], PITCH);
}

// 16 runs by 16 columns.
fn right(at: u32) -> Right {
    return coopLoadT<Right>(&tile[at], PITCH);
}

fn put_sum(c: Sum, at: u32) {
    coopStoreT(c, &sums[at], SUMS);
}

// 32 rows of signs, in six factors of 16 each, times 16 columns of the tile, added to two matrices. A right factor is loaded once for both.
struct Both {
    upper: Sum,
    lower: Sum,
}

fn add6(a: Factors, b: Factors, at: u32, before: Both) -> Both {
    var upper = before.upper;
    var lower = before.lower;
    let r0 = right(at);
    upper = multiply_add(a.f0, r0, upper);
    lower = multiply_add(b.f0, r0, lower);
    let r1 = right(16u * PITCH + at);
    upper = multiply_add(a.f1, r1, upper);
    lower = multiply_add(b.f1, r1, lower);
    let r2 = right(32u * PITCH + at);
    upper = multiply_add(a.f2, r2, upper);
    lower = multiply_add(b.f2, r2, lower);
    let r3 = right(48u * PITCH + at);
    upper = multiply_add(a.f3, r3, upper);
    lower = multiply_add(b.f3, r3, lower);
    let r4 = right(64u * PITCH + at);
    upper = multiply_add(a.f4, r4, upper);
    lower = multiply_add(b.f4, r4, lower);
    let r5 = right(80u * PITCH + at);
    upper = multiply_add(a.f5, r5, upper);
    lower = multiply_add(b.f5, r5, lower);
    return Both(upper, lower);
}

fn inputs(at: u32) -> mat4x4<f32> {
    return mat4x4(x[at], x[at + 4u], x[at + 8u], x[at + 12u]);
}

// Levels within a quad and between columns.
fn own_levels(m: mat4x4<f32>) -> mat4x4<f32> {
    return butterflies(m, vec4(0u), 1u);
}

fn cut(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(first_bits(m[0]), first_bits(m[1]), first_bits(m[2]), first_bits(m[3]));
}

// Where quad (b, q) of a part is: so that neither threads of one b nor of one q share memory banks.
fn place_of(b: u32, q: u32) -> u32 {
    return 8u * (q / 2u) + 2u * b + q % 2u;
}

fn stage(thread: u32, m: mat4x4<f32>) {
    let at = thread / 4u * PITCH + place_of(0u, thread % 4u);
    tile[at] = vec4<f16>(m[0]);
    tile[at + 2u] = vec4<f16>(m[1]);
    tile[at + 4u] = vec4<f16>(m[2]);
    tile[at + 6u] = vec4<f16>(m[3]);
}

// Sums of row thread / 4 and b = thread % 4, columns by q; with these levels all are done.
fn results(thread: u32) -> mat4x4<f32> {
    let at = thread / 4u * SUMS + place_of(thread % 4u, 0u);
    let m = mat4x4(sums[at], sums[at + 1u], sums[at + 8u], sums[at + 9u]);
    let near = mat4x4(m[0] + m[1], m[0] - m[1], m[2] + m[3], m[2] - m[3]);
    return mat4x4(near[0] + near[2], near[1] + near[3], near[0] - near[2], near[1] - near[3]);
}

fn top(m: mat4x4<f32>) -> f32 {
    let quads = max(max(abs(m[0]), abs(m[1])), max(abs(m[2]), abs(m[3])));
    return max(max(quads.x, quads.y), max(quads.z, quads.w));
}

fn tops(a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>) -> f32 {
    return max(max(top(a), top(b)), max(top(c), top(d)));
}

fn store(at: u32, m: mat4x4<f32>, inverse: f32) {
    codes[at] = vec4(codes_of(m[0], inverse), codes_of(m[1], inverse), codes_of(m[2], inverse), codes_of(m[3], inverse));
}

// The largest of the groups that the thread's sixteen elements of each part are in, which have `own`.
fn group_tops(own: vec4<f32>, thread: u32) -> vec4<f32> {
    workgroupBarrier(); // sums may still be read
    sums[thread] = own;
    workgroupBarrier();
    var most = own;
    if params.group > 16u {
        most = max(most, sums[thread ^ 1u]);
    }
    if params.group > 32u {
        most = max(most, max(sums[thread ^ 2u], sums[thread ^ 3u]));
    }
    if params.group > 64u {
        most = max(most, most.yxwz);
    }
    if params.group > 128u {
        most = max(most, most.zwxy);
    }
    workgroupBarrier();
    return most;
}

// Sixteen elements from column `at` on, of a group whose largest is `largest`; they are `by` times as large.
fn store_group(at: u32, m: mat4x4<f32>, largest: f32, by: f32) {
    store(at / 16u, m, group_inverse_of(largest) * by);
    if at % params.group == 0u {
        scales[at / params.group] = group_scale_of(largest);
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    place: Place,
) {
    let thread = place.thread;
    let each = select(1u, EACH, params.rows >= MANY);
    let row0 = linear_workgroup(workgroup, grid) * each;
    if row0 >= params.rows {
        return;
    }
    // A subgroup makes rows 32 (warp / 4).. of columns 16 (warp % 4).. of each part.
    let warp = warp_of(place);
    let upper = warp / 4u * 32u * PITCH;
    let lower = upper + 16u * PITCH;
    let columns = warp % 4u * 4u;
    let region = warp / 4u * 32u * SUMS + warp % 4u * 4u;
    stage_signs(thread, 0u);
    workgroupBarrier();
    let a0 = left(upper + 0u);
    let b0 = left(lower + 0u);
    let a1 = left(upper + 4u);
    let b1 = left(lower + 4u);
    let a2 = left(upper + 8u);
    let b2 = left(lower + 8u);
    let a3 = left(upper + 12u);
    let b3 = left(lower + 12u);
    workgroupBarrier();
    stage_signs(thread, 1u);
    workgroupBarrier();
    let a4 = left(upper + 0u);
    let b4 = left(lower + 0u);
    let a5 = left(upper + 4u);
    let b5 = left(lower + 4u);
    let a = Factors(a0, a1, a2, a3, a4, a5);
    let b = Factors(b0, b1, b2, b3, b4, b5);
    for (var row = row0; row < min(row0 + each, params.rows); row++) {
        // Beyond the last run the last again, which has zeros for signs.
        let first = (row * params.order + min(thread / 4u, params.order - 1u)) * RUN + thread % 4u;
        let x0 = inputs(first);
        let x1 = inputs(first + 16u);
        let x2 = inputs(first + 32u);
        let x3 = inputs(first + 48u);
        let sum0 = own_levels(x0 + x1);
        let sum1 = own_levels(x2 + x3);
        let difference0 = own_levels(x0 - x1);
        let difference1 = own_levels(x2 - x3);
        var v0 = sum0 + sum1;
        var v1 = difference0 + difference1;
        var v2 = sum0 - sum1;
        var v3 = difference0 - difference1;
        // 2^14 to 2^15 for the largest; within what a power of two and its inverse can be.
        let exponent = bitcast<u32>(workgroup_max(tops(v0, v1, v2, v3), place)) >> 23u;
        let power = clamp(268u - min(exponent, 255u), 1u, 253u);
        let factor = bitcast<f32>(power << 23u);
        let unit = bitcast<f32>((254u - power) << 23u);
        v0 *= factor;
        stage(thread, v0 - cut(v0));
        workgroupBarrier();
        let low0 = add6(a, b, columns, Both());
        workgroupBarrier();
        stage(thread, cut(v0));
        workgroupBarrier();
        let all0 = add6(a, b, columns, low0);
        put_sum(all0.upper, region);
        put_sum(all0.lower, region + 16u * SUMS);
        workgroupBarrier();
        v0 = results(thread);
        v1 *= factor;
        stage(thread, v1 - cut(v1));
        workgroupBarrier();
        let low1 = add6(a, b, columns, Both());
        workgroupBarrier();
        stage(thread, cut(v1));
        workgroupBarrier();
        let all1 = add6(a, b, columns, low1);
        put_sum(all1.upper, region);
        put_sum(all1.lower, region + 16u * SUMS);
        workgroupBarrier();
        v1 = results(thread);
        v2 *= factor;
        stage(thread, v2 - cut(v2));
        workgroupBarrier();
        let low2 = add6(a, b, columns, Both());
        workgroupBarrier();
        stage(thread, cut(v2));
        workgroupBarrier();
        let all2 = add6(a, b, columns, low2);
        put_sum(all2.upper, region);
        put_sum(all2.lower, region + 16u * SUMS);
        workgroupBarrier();
        v2 = results(thread);
        v3 *= factor;
        stage(thread, v3 - cut(v3));
        workgroupBarrier();
        let low3 = add6(a, b, columns, Both());
        workgroupBarrier();
        stage(thread, cut(v3));
        workgroupBarrier();
        let all3 = add6(a, b, columns, low3);
        put_sum(all3.upper, region);
        put_sum(all3.lower, region + 16u * SUMS);
        workgroupBarrier();
        v3 = results(thread);
        if params.group < 4u * RUN * params.order {
            let by = unit * params.unit;
            let most = group_tops(vec4(top(v0), top(v1), top(v2), top(v3)), thread) * params.unit * unit;
            if thread / 4u < params.order {
                let at = 4u * ((row * params.order + thread / 4u) * RUN) + thread % 4u * 16u;
                store_group(at, v0, most.x, by);
                store_group(at + 64u, v1, most.y, by);
                store_group(at + 128u, v2, most.z, by);
                store_group(at + 192u, v3, most.w, by);
            }
            continue;
        }
        let largest = workgroup_max(tops(v0, v1, v2, v3), place) * params.unit * unit;
        let inverse = inverse_of(largest) * unit * params.unit;
        if thread / 4u < params.order {
            let to = (row * params.order + thread / 4u) * (RUN / 4u) + thread % 4u;
            store(to, v0, inverse);
            store(to + 4u, v1, inverse);
            store(to + 8u, v2, inverse);
            store(to + 12u, v3, inverse);
        }
        if thread == 0u {
            scales[row] = scale_of(largest);
        }
    }
}
