// rank_update.wgsl for parts of whole vec4s, by shared/outer_products.wgsl: a term is a step of the depth. The next terms come while
// these are multiplied.
#import index
#import outer_products

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

const TILE = 64u;

@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>; // part [depth, rows], or [rows, depth]
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>; // part [depth, cols]
@group(0) @binding(2) var<storage, read_write> c: array<vec4<f32>>; // part [rows, cols]
@group(0) @binding(3) var<uniform> params: Params;

// Where a thread reads what it stages: four lines of a factor, whose vec4s are terms, or columns of a that are rows here.
struct Source {
    left: bool, // a, or b
    turned: bool,
    first: u32, // vec4s: of the part, at this thread's outputs
    stride: u32, // from a line to the next
}

fn source_of(spot: Staged, row: u32, col: u32) -> Source {
    if !spot.left {
        return Source(false, false, (params.b_first + col) / 4u, params.b_stride / 4u);
    }
    if params.a_by_rows == 1u {
        return Source(true, true, (params.a_first + row * params.a_stride) / 4u, params.a_stride / 4u);
    }
    return Source(true, false, (params.a_first + row) / 4u, params.a_stride / 4u);
}

// Four terms from `k` on, a line of memory a column; beyond the depth the last again.
fn fetch(source: Source, k: u32) -> mat4x4<f32> {
    let four = vec4(0u, 1u, 2u, 3u);
    let last = params.depth - 1u;
    if source.turned {
        let at = source.first + four * source.stride + min(k, last) / 4u;
        return mat4x4(a[at.x], a[at.y], a[at.z], a[at.w]);
    }
    let at = source.first + min(k + four, vec4(last)) * source.stride;
    if source.left {
        return mat4x4(a[at.x], a[at.y], a[at.z], a[at.w]);
    }
    return mat4x4(b[at.x], b[at.y], b[at.z], b[at.w]);
}

// A term a column, with its sign; 0 beyond the depth.
fn terms(source: Source, fetched: mat4x4<f32>, k: u32) -> mat4x4<f32> {
    var m = fetched;
    if source.turned {
        m = transpose(m);
    }
    let sign = select(1.0, params.sign, source.left);
    let zero = vec4(0.0);
    let inside = k + vec4(0u, 1u, 2u, 3u) < vec4(params.depth);
    return mat4x4(
        select(zero, sign * m[0], inside.x),
        select(zero, sign * m[1], inside.y),
        select(zero, sign * m[2], inside.z),
        select(zero, sign * m[3], inside.w),
    );
}

// Four rows of c at four columns; beyond the end the last again.
fn places(row: u32, col: u32) -> vec4<u32> {
    let first = params.c_first + min(row, params.rows - 4u) * params.c_stride + min(col, params.cols - 4u);
    return (first + vec4(0u, 1u, 2u, 3u) * params.c_stride) / 4u;
}

fn load(at: vec4<u32>) -> mat4x4<f32> {
    if params.fresh == 1u {
        return mat4x4<f32>();
    }
    return mat4x4(c[at.x], c[at.y], c[at.z], c[at.w]);
}

fn store(sum: mat4x4<f32>, row: u32, col: u32) {
    if row >= params.rows || col >= params.cols {
        return;
    }
    let at = places(row, col);
    c[at.x] = sum[0];
    c[at.y] = sum[1];
    c[at.z] = sum[2];
    c[at.w] = sum[3];
}

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let across = (params.cols + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let row0 = item / across * TILE;
    let col0 = item % across * TILE;
    if row0 >= params.rows || (params.lower == 1u && col0 >= row0 + TILE) {
        return;
    }
    let spot = staged_by(thread);
    let own = 4u * spot.quad;
    let source = source_of(spot, min(row0 + own, params.rows - 4u), min(col0 + own, params.cols - 4u));
    var next = fetch(source, 4u * spot.part);
    let row = row0 + 4u * left_quad(thread);
    let col = col0 + 4u * right_quad(thread);
    let far = col + TILE / 2u;
    var sums = Sums(load(places(row, col)), load(places(row, far)));
    for (var k0 = 0u; k0 < params.depth; k0 += STEP) {
        let k = k0 + 4u * spot.part;
        stage(thread, terms(source, next, k));
        workgroupBarrier();
        next = fetch(source, k + STEP);
        sums = add_step(sums, thread);
        workgroupBarrier();
    }
    store(sums.near, row, col);
    store(sums.far, row, far);
}
