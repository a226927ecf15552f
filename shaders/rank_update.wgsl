// c += sign * a * b on parts of matrices, a product of small depth: what a blocked Cholesky factorisation, triangular
// solving and GPTQ's feeding of errors all come down to (Golub and Van Loan, Matrix Computations, section 4.2).
// One workgroup: a tile of 64 x 64. A thread: rows 4 y and 32 + 4 y, 4 of each, by columns likewise.
// A sum runs over the depth in order and starts from c, so that cutting the depth changes nothing.
#import index

struct Params {
    rows: u32, // of the part of c
    cols: u32, // of the part of c
    depth: u32,
    a_first: u32, // index of the first element of each part, and from one row of the matrix to the next
    a_stride: u32,
    a_by_rows: u32, // a's part is [rows, depth]; else [depth, rows]
    b_first: u32,
    b_stride: u32,
    c_first: u32,
    c_stride: u32,
    sign: f32, // 1 or -1
    fresh: u32, // start from 0, not from c
    lower: u32, // tiles wholly above the diagonal stay as they are
}

const SIDE = 8u;
const TILE = 64u;
const DEPTH = 16u;

@group(0) @binding(0) var<storage, read> a: array<f32>; // part [depth, rows], or [rows, depth]
@group(0) @binding(1) var<storage, read> b: array<f32>; // part [depth, cols]
@group(0) @binding(2) var<storage, read_write> c: array<f32>; // part [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

var<workgroup> a_tile: array<f32, DEPTH * TILE>;
var<workgroup> b_tile: array<f32, DEPTH * TILE>;

fn a_at(k: u32, row: u32) -> f32 {
    if k >= params.depth || row >= params.rows {
        return 0.0;
    }
    let at = select(k * params.a_stride + row, row * params.a_stride + k, params.a_by_rows == 1u);
    return params.sign * a[params.a_first + at];
}

fn b_at(k: u32, col: u32) -> f32 {
    if k >= params.depth || col >= params.cols {
        return 0.0;
    }
    return b[params.b_first + k * params.b_stride + col];
}

fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(x.x * y, x.y * y, x.z * y, x.w * y);
}

fn c_at(row: u32, col: u32) -> u32 {
    return params.c_first + row * params.c_stride + col;
}

fn inside(row: u32, col: u32) -> bool {
    return row < params.rows && col < params.cols;
}

fn load1(row: u32, col: u32) -> f32 {
    if inside(row, col) {
        return c[c_at(row, col)];
    }
    return 0.0;
}

fn load4(row: u32, col: u32) -> vec4<f32> {
    return vec4(load1(row, col), load1(row, col + 1u), load1(row, col + 2u), load1(row, col + 3u));
}

// `block[i][j]` belongs to row + i, col + j.
fn load(row: u32, col: u32) -> mat4x4<f32> {
    if params.fresh == 1u {
        return mat4x4<f32>();
    }
    return mat4x4(load4(row, col), load4(row + 1u, col), load4(row + 2u, col), load4(row + 3u, col));
}

fn store(block: mat4x4<f32>, row: u32, col: u32) {
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            if inside(row + i, col + j) {
                c[c_at(row + i, col + j)] = block[i][j];
            }
        }
    }
}

fn four_a(at: u32) -> vec4<f32> {
    return vec4(a_tile[at], a_tile[at + 1u], a_tile[at + 2u], a_tile[at + 3u]);
}

fn four_b(at: u32) -> vec4<f32> {
    return vec4(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
}

// Brings DEPTH steps of both operands into workgroup memory; neighbouring threads read neighbours.
fn stage(k0: u32, row0: u32, col0: u32, thread: u32) {
    for (var i = thread; i < DEPTH * TILE; i += SIDE * SIDE) {
        if params.a_by_rows == 1u {
            a_tile[i % DEPTH * TILE + i / DEPTH] = a_at(k0 + i % DEPTH, row0 + i / DEPTH);
        } else {
            a_tile[i] = a_at(k0 + i / TILE, row0 + i % TILE);
        }
        b_tile[i] = b_at(k0 + i / TILE, col0 + i % TILE);
    }
}

@compute @workgroup_size(SIDE, SIDE)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) index: u32,
) {
    let across = (params.cols + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let row0 = item / across * TILE;
    let col0 = item % across * TILE;
    if row0 >= params.rows || (params.lower == 1u && col0 >= row0 + TILE) {
        return;
    }
    let y = 4u * thread.y;
    let x = 4u * thread.x;
    let far = TILE / 2u;
    var c00 = load(row0 + y, col0 + x);
    var c01 = load(row0 + y, col0 + far + x);
    var c10 = load(row0 + far + y, col0 + x);
    var c11 = load(row0 + far + y, col0 + far + x);
    for (var k0 = 0u; k0 < params.depth; k0 += DEPTH) {
        stage(k0, row0, col0, index);
        workgroupBarrier();
        for (var k = 0u; k < DEPTH; k++) {
            let a0 = four_a(k * TILE + y);
            let a1 = four_a(k * TILE + far + y);
            let b0 = four_b(k * TILE + x);
            let b1 = four_b(k * TILE + far + x);
            c00 += outer(a0, b0);
            c01 += outer(a0, b1);
            c10 += outer(a1, b0);
            c11 += outer(a1, b1);
        }
        workgroupBarrier();
    }
    store(c00, row0 + y, col0 + x);
    store(c01, row0 + y, col0 + far + x);
    store(c10, row0 + far + y, col0 + x);
    store(c11, row0 + far + y, col0 + far + x);
}
