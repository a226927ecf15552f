// out = softmax(scale q·kᵀ) v over cache rows 0..=cursor + t for query t; query head j reads kv head
// j / (heads / kv_heads) (Ainslie et al. 2023, arXiv:2305.13245), the softmax online over 32 keys at a time
// (Dao et al. 2022, arXiv:2205.14135). Rows are (token, query head of the kv head). Each sequence has its own rows of
// the caches, and of q and out.
// One workgroup: 64 rows by 64 columns of one kv head. A thread: rows 4i..4i+4 and 32 further, columns likewise.
#import index
#import attention_rows
#ifdef half_scalars int8 int8_scalars int4 int4_scalars
#import kv_codes
#endif
#ifdef int8 int8_scalars int4 int4_scalars
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

const WG = 64u;
const ROWS = 64u;
const KEYS = 32u; // of one step; also half the rows
const SIDE = 8u; // threads along rows and along columns or keys

// Formats: caches of f32 (`quads`, `scalars`), of f16 (`half`, `half_scalars`) or of codes (`int8`, `int4`, `*_scalars`;
// shared/kv_codes.wgsl); `scalars` for a head_dim that is no multiple of 4.
#ifdef quads half int8 int4
@group(0) @binding(0) var<storage, read> q: array<vec4<f32>>; // [sequences * tokens, q_stride]
#else
@group(0) @binding(0) var<storage, read> q: array<f32>; // [sequences * tokens, q_stride]
#endif
#ifdef quads
@group(0) @binding(1) var<storage, read> k_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<vec4<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef half
@group(0) @binding(1) var<storage, read> k_cache: array<vec2<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<vec2<u32>>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
#ifdef scalars half_scalars int8 int8_scalars int4 int4_scalars
@group(0) @binding(1) var<storage, read> k_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
@group(0) @binding(2) var<storage, read> v_cache: array<u32>; // [sequences * max, kv_heads * head_dim] f32, or codes and scales
#endif
@group(0) @binding(3) var<storage, read> cursor: array<u32>; // [sequences]
#ifdef quads half int8 int4
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>; // [sequences * tokens, heads * head_dim]

// Elements 4i..4i+4 of the head that begins at element `at`.
fn q4(at: u32, i: u32) -> vec4<f32> {
    return q[at / 4u + i];
}

fn put(row: u32, i: u32, value: vec4<f32>) {
    if i < params.head_dim / 4u {
        out[row * (params.head_dim / 4u) + i] = value;
    }
}
#else
@group(0) @binding(4) var<storage, read_write> out: array<f32>; // [sequences * tokens, heads * head_dim]

// Elements 4i..4i+4 of a row of head_dim elements; zeros beyond its end, which a product then ignores.
fn spread(row: u32, i: u32) -> vec4<u32> {
    let last = params.head_dim - 1u;
    return row * params.head_dim + min(vec4(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u), vec4(last));
}

fn inside(i: u32) -> vec4<bool> {
    return vec4(4u * i, 4u * i + 1u, 4u * i + 2u, 4u * i + 3u) < vec4(params.head_dim);
}

fn q4(first: u32, i: u32) -> vec4<f32> {
    let at = first + spread(0u, i);
    return select(vec4(0.0), vec4(q[at.x], q[at.y], q[at.z], q[at.w]), inside(i));
}

fn put(row: u32, i: u32, value: vec4<f32>) {
    for (var c = 4u * i; c < min(4u * i + 4u, params.head_dim); c++) {
        out[row * params.head_dim + c] = value[c % 4u];
    }
}
#endif

// Elements 4i..4i+4 of a row of the caches; beyond its end anything. All others: shared/kv_keys.wgsl, shared/kv_values.wgsl.
#ifdef scalars
fn k4(row: u32, i: u32) -> vec4<f32> {
    let at = spread(row, i);
    return bitcast<vec4<f32>>(vec4(k_cache[at.x], k_cache[at.y], k_cache[at.z], k_cache[at.w]));
}

fn v4(row: u32, i: u32) -> vec4<f32> {
    let at = spread(row, i);
    return bitcast<vec4<f32>>(vec4(v_cache[at.x], v_cache[at.y], v_cache[at.z], v_cache[at.w]));
}
#endif

@group(0) @binding(5) var<uniform> params: Params;

fn k_rows4(key: u32, end: u32, kv: u32, i: u32) -> mat4x4<f32> {
    let at = min(vec4(key, key + 1u, key + 2u, key + 3u), vec4(end - 1u)) * params.kv_heads + kv;
    return mat4x4(k4(at.x, i), k4(at.y, i), k4(at.z, i), k4(at.w, i));
}

fn v_rows4(key: u32, end: u32, kv: u32, i: u32) -> mat4x4<f32> {
    let at = min(vec4(key, key + 1u, key + 2u, key + 3u), vec4(end - 1u)) * params.kv_heads + kv;
    return mat4x4(v4(at.x, i), v4(at.y, i), v4(at.z, i), v4(at.w, i));
}

fn store(row: u32, rows: u32, kv: u32, column: u32, sums: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if row + i < rows {
            put(out_row(row + i, kv), column, sums[i]);
        }
    }
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let quads = (params.head_dim + 3u) / 4u;
    let column_tiles = (quads + 2u * SIDE - 1u) / (2u * SIDE);
    let repeats = params.heads / params.kv_heads;
    let rows = params.tokens * repeats;
    var item = linear_workgroup(workgroup, grid);
    let column0 = item % column_tiles * 2u * SIDE;
    item /= column_tiles;
    let kv = item % params.kv_heads;
    let row_tiles = (rows + ROWS - 1u) / ROWS;
    let sequence = item / params.kv_heads / row_tiles;
    let row0 = item / params.kv_heads % row_tiles * ROWS;
    if sequence >= params.sequences {
        return;
    }
    // Rows of the sequence begin here, in q and out and in the caches.
    let base = sequence * rows;
    let first = sequence * params.max;
    let last = rows - 1u;
    // Keys any row of this tile sees.
    let end = first + min(cursor[sequence] + min(row0 + ROWS - 1u, last) / repeats + 1u, params.max);

    let j = thread % SIDE;
    let local = thread / SIDE * 4u;
    let row = row0 + local;
    // Loops of threads without a row end at once: one token has few rows.
    let quads_a = select(0u, quads, row < rows);
    let steps_a = select(0u, SIDE, row < rows);
    let two_rows = row0 + KEYS < rows;
    let two_columns = column0 + SIDE < quads;
    let ca = min(column0 + j, quads - 1u);
    let cb = min(column0 + j + SIDE, quads - 1u);
    let qa = base + min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(last));
    let qb = base + min(vec4(row, row + 1u, row + 2u, row + 3u) + KEYS, vec4(last));
    let ra = vec4(q_place(qa.x, kv), q_place(qa.y, kv), q_place(qa.z, kv), q_place(qa.w, kv));
    let rb = vec4(q_place(qb.x, kv), q_place(qb.y, kv), q_place(qb.z, kv), q_place(qb.w, kv));
    let own = cursor[sequence] + min(row0 + thread, last) / repeats; // of the row this thread softens
    let limit = first + min(own, params.max - 1u);
    var peak = LOWEST;
    var total = 0.0;
    var oaa = mat4x4<f32>(); // sums for the two halves of the rows and of the columns: columns are rows of out
    var oab = mat4x4<f32>();
    var oba = mat4x4<f32>();
    var obb = mat4x4<f32>();
    for (var key0 = first; key0 < end; key0 += KEYS) {
        var sa = mat4x4<f32>(); // scores: columns are rows of q, rows are keys
        var sb = mat4x4<f32>();
        for (var i = 0u; i < quads_a; i++) {
            let keys = transpose(k_rows4(key0 + 4u * j, end, kv, i));
            sa += keys * mat4x4(q4(ra.x, i), q4(ra.y, i), q4(ra.z, i), q4(ra.w, i));
            if two_rows {
                sb += keys * mat4x4(q4(rb.x, i), q4(rb.y, i), q4(rb.z, i), q4(rb.w, i));
            }
        }
        workgroupBarrier(); // the last step's may still be read
        put_scores(local, j, params.scale * sa);
        put_scores(local + KEYS, j, params.scale * sb);
        workgroupBarrier();
        soften(thread, key0, limit, &peak, &total);
        workgroupBarrier();
        let fa = get_factors(local);
        let fb = get_factors(local + KEYS);
        oaa = scale_columns(oaa, fa);
        oab = scale_columns(oab, fa);
        oba = scale_columns(oba, fb);
        obb = scale_columns(obb, fb);
        for (var s = 0u; s < steps_a; s++) {
            let va = v_rows4(key0 + 4u * s, end, kv, ca);
            let wa = get_scores(local, s);
            let wb = get_scores(local + KEYS, s);
            oaa += va * wa;
            if two_rows {
                oba += va * wb;
            }
            if two_columns {
                let vb = v_rows4(key0 + 4u * s, end, kv, cb);
                oab += vb * wa;
                obb += vb * wb;
            }
        }
    }
    workgroupBarrier();
    factors[thread] = 1.0 / total;
    workgroupBarrier();
    let fa = get_factors(local);
    let fb = get_factors(local + KEYS);
    store(base + row, base + rows, kv, column0 + j, scale_columns(oaa, fa));
    store(base + row, base + rows, kv, column0 + j + SIDE, scale_columns(oab, fa));
    store(base + row + KEYS, base + rows, kv, column0 + j, scale_columns(oba, fb));
    store(base + row + KEYS, base + rows, kv, column0 + j + SIDE, scale_columns(obb, fb));
}
