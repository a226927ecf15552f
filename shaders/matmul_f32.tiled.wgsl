// matmul_f32 from tiles in workgroup memory, which on a GPU is several times as fast as straight from storage, and on a CPU
// half as fast. A workgroup makes 64 x 128 outputs, 16 steps of k at a time, a thread 8 x 8: its columns are 16 apart, so
// that neighbouring threads store neighbouring outputs. Any m, n, k.
#import index
#import store_columns

struct Params {
    m: u32, // rows of x
    n: u32, // rows of weight
    k: u32, // columns of both
    epilogue: u32, // 0 store, 1 squared ReLU, 2 add
    out_stride: u32, // columns of a whole row of out, of which these are n
    out_first: u32, // the first of them
}

const ROWS = 64u; // of the workgroup's tile
const COLS = 128u;
const ACROSS = 16u; // threads along the columns
const DOWN = 8u; // and along the rows
const DEPTH = 16u; // steps of k
const PITCH_X = 17u; // vec4s from a step to the next: 16 of 64 rows, padded against bank conflicts
const PITCH_W = 33u; // 32 of 128 columns, likewise

@group(0) @binding(0) var<storage, read> x: array<f32>; // [m, k]
@group(0) @binding(1) var<storage, read> weight: array<u32>; // [n, k], rows start at words
@group(0) @binding(2) var<storage, read_write> out: array<f32>; // [m, out_stride]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> tile_x: array<vec4<f32>, DEPTH * PITCH_X>; // [step, row / 4]
// [step, column / 4] with the 8 columns of a thread, 16 apart, beside each other.
var<workgroup> tile_w: array<vec4<f32>, DEPTH * PITCH_W>;

// A step of four rows of x; zero beyond the end, so that the weight there does not count.
fn fetch_x(row: u32, k: u32) -> vec4<f32> {
    let rows = min(row + vec4(0u, 1u, 2u, 3u), vec4(params.m - 1u));
    let i = rows * params.k + min(k, params.k - 1u);
    return select(vec4(0.0), vec4(x[i.x], x[i.y], x[i.z], x[i.w]), k < params.k);
}

// A step of four columns, 16 apart, the first of which is in the tile's first or fifth 16.
fn put_w(col: u32, step: u32, v: vec4<f32>) {
    tile_w[step * PITCH_W + col % ACROSS * 2u + col / (4u * ACROSS)] = v;
}

#ifdef tiled_f32
// A step of four columns, 16 apart.
fn fetch_w(col: u32, thread: u32, k0: u32) -> vec4<u32> {
    let first = col + thread / DEPTH;
    let cols = min(first + ACROSS * vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
    let i = cols * params.k + min(k0 + thread % DEPTH, params.k - 1u);
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn stage_w(col: u32, thread: u32, words: vec4<u32>) {
    put_w(col + thread / DEPTH, thread % DEPTH, bitcast<vec4<f32>>(words));
}
#else
fn pair_of(word: u32) -> vec2<f32> {
#ifdef tiled_f16
    return unpack2x16float(word);
#else
    return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u));
#endif
}

// Two steps, in a word, of four columns, 16 apart.
fn fetch_w(col: u32, thread: u32, k0: u32) -> vec4<u32> {
    let words = (params.k + 1u) / 2u;
    let first = col + thread / 8u;
    let cols = min(first + ACROSS * vec4(0u, 1u, 2u, 3u), vec4(params.n - 1u));
    let i = cols * words + min(k0 / 2u + thread % 8u, words - 1u);
    return vec4(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn stage_w(col: u32, thread: u32, words: vec4<u32>) {
    let pairs = mat4x2(pair_of(words.x), pair_of(words.y), pair_of(words.z), pair_of(words.w));
    let steps = transpose(pairs);
    let step = 2u * (thread % 8u);
    put_w(col + thread / 8u, step, steps[0]);
    put_w(col + thread / 8u, step + 1u, steps[1]);
}
#endif

// Row i of the block plus x[i] w.
fn add_outer(block: mat4x4<f32>, x: vec4<f32>, w: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(block[0] + x.x * w, block[1] + x.y * w, block[2] + x.z * w, block[3] + x.w * w);
}

fn store_row(values: vec4<f32>, row: u32, col: u32) {
    if row >= params.m {
        return;
    }
    store_if(values.x, row, col);
    store_if(values.y, row, col + ACROSS);
    store_if(values.z, row, col + 2u * ACROSS);
    store_if(values.w, row, col + 3u * ACROSS);
}

fn store_if(value: f32, row: u32, col: u32) {
    if col < params.n {
        store_at(row, col, value);
    }
}

fn store_block(block: mat4x4<f32>, row: u32, col: u32) {
    store_row(block[0], row, col);
    store_row(block[1], row + 1u, col);
    store_row(block[2], row + 2u, col);
    store_row(block[3], row + 3u, col);
}

@compute @workgroup_size(ACROSS, DOWN)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
) {
    // The host covers the outputs with tiles of 64 x 64; of these workgroups the first half does the work, going down the
    // rows of x first, which then stay in cache.
    let index = linear_workgroup(workgroup, grid);
    let tile_rows = (params.m + ROWS - 1u) / ROWS;
    let row0 = index % tile_rows * ROWS;
    let col0 = index / tile_rows * COLS;
    if col0 >= params.n {
        return;
    }
    let own = thread.y * ACROSS + thread.x;
    let step = own % DEPTH;
    let line = own / DEPTH;
    var a00 = mat4x4<f32>();
    var a01 = mat4x4<f32>();
    var a10 = mat4x4<f32>();
    var a11 = mat4x4<f32>();
    var x0 = fetch_x(row0 + 4u * line, step);
    var x1 = fetch_x(row0 + 4u * line + ROWS / 2u, step);
    var w0 = fetch_w(col0, own, 0u);
    var w1 = fetch_w(col0 + COLS / 2u, own, 0u);
#ifdef tiled_f32
    var w2 = fetch_w(col0 + ACROSS / 2u, own, 0u);
    var w3 = fetch_w(col0 + COLS / 2u + ACROSS / 2u, own, 0u);
#endif
    for (var k0 = 0u; k0 < params.k; k0 += DEPTH) {
        tile_x[step * PITCH_X + line] = x0;
        tile_x[step * PITCH_X + line + ROWS / 8u] = x1;
        stage_w(0u, own, w0);
        stage_w(COLS / 2u, own, w1);
#ifdef tiled_f32
        stage_w(ACROSS / 2u, own, w2);
        stage_w(COLS / 2u + ACROSS / 2u, own, w3);
#endif
        workgroupBarrier();
        // The next words come while these are multiplied.
        let ahead = k0 + DEPTH;
        x0 = fetch_x(row0 + 4u * line, ahead + step);
        x1 = fetch_x(row0 + 4u * line + ROWS / 2u, ahead + step);
        w0 = fetch_w(col0, own, ahead);
        w1 = fetch_w(col0 + COLS / 2u, own, ahead);
#ifdef tiled_f32
        w2 = fetch_w(col0 + ACROSS / 2u, own, ahead);
        w3 = fetch_w(col0 + COLS / 2u + ACROSS / 2u, own, ahead);
#endif
        for (var i = 0u; i < DEPTH; i++) {
            let left0 = tile_x[i * PITCH_X + 2u * thread.y];
            let left1 = tile_x[i * PITCH_X + 2u * thread.y + 1u];
            let right0 = tile_w[i * PITCH_W + 2u * thread.x];
            let right1 = tile_w[i * PITCH_W + 2u * thread.x + 1u];
            a00 = add_outer(a00, left0, right0);
            a01 = add_outer(a01, left0, right1);
            a10 = add_outer(a10, left1, right0);
            a11 = add_outer(a11, left1, right1);
        }
        workgroupBarrier();
    }
    let row = row0 + 8u * thread.y;
    let col = col0 + thread.x;
    store_block(a00, row, col);
    store_block(a01, row, col + 4u * ACROSS);
    store_block(a10, row + 4u, col);
    store_block(a11, row + 4u, col + 4u * ACROSS);
}
