// attention.wgsl for many rows and heads of up to 128 elements, a multiple of 4: every operand goes through workgroup memory,
// f16 and codes as f32, so that each is loaded and converted once for a workgroup.
// One workgroup: 64 rows of one kv head, 32 keys a step. A thread has 4 rows by 4 keys of the scores, made of 16 elements of
// the head at a time, and 8 rows by 8 columns of out, of 4 keys at a time.
#import index
#import attention_rows
#ifdef int8_blocks
#import kv_codes
#import pack
#endif
#import kv_keys
#import kv_values
#import matrix
#import online_softmax

struct Params {
    sequences: u32,
    tokens: u32, // of a sequence
    heads: u32,
    kv_heads: u32,
    head_dim: u32,
    max: u32, // rows of a sequence's cache
    q_offset: u32, // first column of q
    q_stride: u32, // columns of the tensor q is in
    scale: f32,
}

const WG = 128u;
const ROWS = 64u;
const KEYS = 32u; // of one step
const SIDE = 8u; // quads of them
const DEPTH = 4u; // quads of the head at a time
const TILE = 5u; // DEPTH, padded against bank conflicts
const QUADS = 32u; // of a row of values

@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>; // [sequences * tokens, q_stride]
#ifdef blocks
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef half_blocks
@group(0) @binding(1) var<storage, read> k_cache: array<vec2<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<vec2<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef int8_blocks
@group(0) @binding(1) var<storage, read> k_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
@group(0) @binding(3) var<storage, read> cursor: array<u32>; // [sequences]
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [sequences * tokens, heads * head_dim]
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> values: array<vec4<f32>, 2u * 4u * QUADS>; // of 4 keys, by turns

// Rows of queries and keys in workgroup memory are in an order in which those that threads next to each other read are next to
// each other: the thread's four are `side` apart. They lie where scores come later.
fn place(row: u32, side: u32) -> u32 {
    return (row % 4u * side + row / 4u) * TILE;
}

fn four(at: u32, side: u32) -> mat4x4<f32> {
    return mat4x4(scores[at], scores[at + side * TILE], scores[at + 2u * side * TILE], scores[at + 3u * side * TILE]);
}

fn four_values(at: u32) -> mat4x4<f32> {
    return mat4x4(values[at], values[at + QUADS], values[at + 2u * QUADS], values[at + 3u * QUADS]);
}

fn store(row: u32, last: u32, kv: u32, column: u32, sums: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if row + i <= last && column < params.head_dim / 4u {
            out[out_row(row + i, kv) * (params.head_dim / 4u) + column] = sums[i];
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let rows = params.tokens * (params.heads / params.kv_heads);
    let row_tiles = (rows + ROWS - 1u) / ROWS;
    // Rows that see most keys go first.
    let item = linear_workgroup(workgroup, grid);
    let kv = item % params.kv_heads;
    let sequence = item / params.kv_heads / row_tiles;
    if sequence >= params.sequences {
        return;
    }
    let tile = row_tiles - 1u - item / params.kv_heads % row_tiles;
    let repeats = params.heads / params.kv_heads;
    let base = sequence * rows;
    let first = sequence * params.max;
    let row0 = base + tile * ROWS;
    let last = base + rows - 1u;
    let before = cursor[sequence];
    // Keys any row of this tile sees, and the last that the row sees which this thread softens.
    let end = first + min(before + (min(row0 + ROWS - 1u, last) - base) / repeats + 1u, params.max);
    let limit = first + min(before + (min(row0 + thread, last) - base) / repeats, params.max - 1u);

    let quads = params.head_dim / 4u;
    let two_columns = quads > QUADS / 2u;
    // What the thread loads: a quad of two rows of queries, of a key, and of a value.
    let line = thread / DEPTH;
    let quad = thread % DEPTH;
    let qa = q_place(min(row0 + line, last), kv) / 4u;
    let qb = q_place(min(row0 + line + ROWS / 2u, last), kv) / 4u;
    let to_q = place(line, ROWS / 4u) + quad;
    let to_k = ROWS * TILE + place(line, SIDE) + quad;
    let column = min(thread % QUADS, quads - 1u);
    // What it multiplies: queries and keys, then weights of rows from `row` on and columns `j` and 16 further.
    let from_q = thread / SIDE * TILE;
    let from_k = (ROWS + thread % SIDE) * TILE;
    let row = thread / 16u * 8u;
    let j = thread % 16u;
    var peak = LOWEST;
    var total = 0.0;
    var oaa = mat4x4<f32>(); // sums for the two halves of the rows and of the columns: columns are rows of out
    var oab = mat4x4<f32>();
    var oba = mat4x4<f32>();
    var obb = mat4x4<f32>();
    for (var key0 = first; key0 < end; key0 += KEYS) {
        let key = min(key0 + line, end - 1u) * params.kv_heads + kv;
        var next_a = q[qa + min(quad, quads - 1u)];
        var next_b = q[qb + min(quad, quads - 1u)];
        var next_k = k4(key, min(quad, quads - 1u));
        var sums = mat4x4<f32>(); // scores: columns are rows of q, rows are keys
        for (var i = 0u; i < quads; i += DEPTH) {
            workgroupBarrier(); // what was there may still be read
            let inside = vec4(i + quad < quads);
            scores[to_q] = select(vec4(0.0), next_a, inside);
            scores[to_q + ROWS / 8u * TILE] = select(vec4(0.0), next_b, inside);
            scores[to_k] = next_k;
            workgroupBarrier();
            let ahead = min(i + DEPTH + quad, quads - 1u);
            next_a = q[qa + ahead];
            next_b = q[qb + ahead];
            next_k = k4(key, ahead);
            sums += transpose(four(from_k, SIDE)) * four(from_q, ROWS / 4u);
            sums += transpose(four(from_k + 1u, SIDE)) * four(from_q + 1u, ROWS / 4u);
            sums += transpose(four(from_k + 2u, SIDE)) * four(from_q + 2u, ROWS / 4u);
            sums += transpose(four(from_k + 3u, SIDE)) * four(from_q + 3u, ROWS / 4u);
        }
        var next_v = v4(min(key0 + thread / QUADS, end - 1u) * params.kv_heads + kv, column);
        workgroupBarrier();
        put_scores(thread / SIDE * 4u, thread % SIDE, params.scale * sums);
        workgroupBarrier();
        if thread < ROWS {
            soften(thread, key0, limit, &peak, &total);
        }
        workgroupBarrier();
        let fa = get_factors(row);
        let fb = get_factors(row + 4u);
        oaa = scale_columns(oaa, fa);
        oab = scale_columns(oab, fa);
        oba = scale_columns(oba, fb);
        obb = scale_columns(obb, fb);
        for (var s = 0u; s < min(SIDE, (end - key0 + 3u) / 4u); s++) {
            let turn = s % 2u * 4u * QUADS;
            values[turn + thread] = next_v;
            workgroupBarrier();
            next_v = v4(min(key0 + 4u * s + 4u + thread / QUADS, end - 1u) * params.kv_heads + kv, column);
            let wa = get_scores(row, s);
            let wb = get_scores(row + 4u, s);
            let va = four_values(turn + j);
            oaa += va * wa;
            oba += va * wb;
            if two_columns {
                let vb = four_values(turn + j + QUADS / 2u);
                oab += vb * wa;
                obb += vb * wb;
            }
        }
    }
    workgroupBarrier();
    if thread < ROWS {
        factors[thread] = 1.0 / total;
    }
    workgroupBarrier();
    let fa = get_factors(row);
    let fb = get_factors(row + 4u);
    store(row0 + row, last, kv, j, scale_columns(oaa, fa));
    store(row0 + row, last, kv, j + QUADS / 2u, scale_columns(oab, fa));
    store(row0 + row + 4u, last, kv, j, scale_columns(oba, fb));
    store(row0 + row + 4u, last, kv, j + QUADS / 2u, scale_columns(obb, fb));
}
