// Integer products of few rows of codes, where rows of the weight, and groups of it, are whole vec4s of words (the format
// `few`): what a workgroup loads of the weight it uses for 8 rows of codes, from registers. 32 threads share 4 rows of the
// weight, each taking every 32nd vec4 of them; the next ones are on the way meanwhile. Four such teams are a workgroup: they
// read the same codes at about the same time. The importing shader has the bindings, `const QUAD`, the codes of a vec4 of
// weight, `const SHIFT`, by which its products are too large, `columns_of`, which makes int8 codes of four vec4s, and
// `add_quad`, which adds their products with those of 4 rows of codes.
#import epilogue
#import index
#import int_block

const WG = 128u;
const TEAM = 32u;
const ROWS = 8u; // of codes
const COLS = 16u; // rows of weight

struct Quads {
    a: vec4<u32>,
    b: vec4<u32>,
    c: vec4<u32>,
    d: vec4<u32>,
}

// What each thread has of each row of codes: four floats, or integers, as bits.
var<workgroup> parts: array<vec4<u32>, ROWS * WG>;

// Four rows of `count`, the last again beyond the end: computed and not stored.
fn four(first: u32, count: u32) -> vec4<u32> {
    return min(vec4(first, first + 1u, first + 2u, first + 3u), vec4(count - 1u));
}

fn groups_of(group: u32) -> u32 {
    return (params.k + group - 1u) / group;
}

// One vec4 of each row of the weight; `rows`: where they start. Likewise of codes.
fn fetch_weight(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows + at;
    return Quads(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn fetch_codes(rows: vec4<u32>, at: u32) -> Quads {
    let i = rows + at;
    return Quads(codes[i.x], codes[i.y], codes[i.z], codes[i.w]);
}

fn fetch_scales(rows: vec4<u32>) -> vec4<f32> {
    return vec4(scales[rows.x], scales[rows.y], scales[rows.z], scales[rows.w]);
}

fn fetch_weight_scales(rows: vec4<u32>) -> vec4<f32> {
    return vec4(weight_scales[rows.x], weight_scales[rows.y], weight_scales[rows.z], weight_scales[rows.w]);
}

// Written out: a loop would index registers.
fn put_parts(first: u32, thread: u32, rows: array<vec4<u32>, 4>) {
    parts[first * WG + thread] = rows[0];
    parts[(first + 1u) * WG + thread] = rows[1];
    parts[(first + 2u) * WG + thread] = rows[2];
    parts[(first + 3u) * WG + thread] = rows[3];
}

fn bits_of(m: mat4x4<f32>) -> array<vec4<u32>, 4> {
    return array(bitcast<vec4<u32>>(m[0]), bitcast<vec4<u32>>(m[1]), bitcast<vec4<u32>>(m[2]), bitcast<vec4<u32>>(m[3]));
}

fn bits_of_sums(s: Sums) -> array<vec4<u32>, 4> {
    return array(bitcast<vec4<u32>>(s[0]), bitcast<vec4<u32>>(s[1]), bitcast<vec4<u32>>(s[2]), bitcast<vec4<u32>>(s[3]));
}

// Where each row of codes and of the weight has one scale: one int32 sum.
fn whole_rows(thread: u32, row: u32, col: u32) {
    let quads = params.k / QUAD;
    let low_rows = four(row, params.m) * (params.k / 16u);
    let high_rows = four(row + 4u, params.m) * (params.k / 16u);
    let weight_rows = four(col, params.n) * quads;
    var low = Sums();
    var high = Sums();
    var next = fetch_weight(weight_rows, min(thread % TEAM, quads - 1u));
    for (var at = thread % TEAM; at < quads; at += TEAM) {
        let columns = columns_of(next);
        next = fetch_weight(weight_rows, min(at + TEAM, quads - 1u));
        low = add_quad(low, low_rows, at, columns);
        high = add_quad(high, high_rows, at, columns);
    }
    put_parts(0u, thread, bits_of_sums(low));
    put_parts(4u, thread, bits_of_sums(high));
}

// Else each vec4's sum is scaled, and the rest is f32.
fn spans(thread: u32, row: u32, col: u32) {
    let quads = params.k / QUAD;
    let low_rows = four(row, params.m) * (params.k / 16u);
    let high_rows = four(row + 4u, params.m) * (params.k / 16u);
    let weight_rows = four(col, params.n) * quads;
    let low_scales = four(row, params.m) * groups_of(params.x_group);
    let high_scales = four(row + 4u, params.m) * groups_of(params.x_group);
    let col_scales = four(col, params.n) * groups_of(params.group);
    var low = mat4x4<f32>();
    var high = mat4x4<f32>();
    var low_scale = fetch_scales(low_scales);
    var high_scale = fetch_scales(high_scales);
    var next = fetch_weight(weight_rows, min(thread % TEAM, quads - 1u));
    for (var at = thread % TEAM; at < quads; at += TEAM) {
        let columns = columns_of(next);
        next = fetch_weight(weight_rows, min(at + TEAM, quads - 1u));
        if params.x_group < params.k {
            low_scale = fetch_scales(low_scales + at * QUAD / params.x_group);
            high_scale = fetch_scales(high_scales + at * QUAD / params.x_group);
        }
        // A power of two: as exact as shifting the sums.
        let scale = fetch_weight_scales(col_scales + at * QUAD / params.group) / f32(1u << SHIFT);
        low = add_scaled(low, add_quad(Sums(), low_rows, at, columns), low_scale, scale);
        high = add_scaled(high, add_quad(Sums(), high_rows, at, columns), high_scale, scale);
    }
    put_parts(0u, thread, bits_of(low));
    put_parts(4u, thread, bits_of(high));
}

// A team's sum of output (row, col) of the tile; each thread begins elsewhere, spread over the memory banks.
fn team_sum(row: u32, col: u32, whole: bool) -> f32 {
    let first = row * WG + col / 4u * TEAM;
    var sum = 0.0;
    var exact = 0i;
    for (var i = 0u; i < TEAM; i++) {
        let word = parts[first + (i + col / 4u + row) % TEAM][col % 4u];
        if whole {
            exact += bitcast<i32>(word);
        } else {
            sum += bitcast<f32>(word);
        }
    }
    return select(sum, f32(exact >> SHIFT), whole);
}

// The tile whose corner is (row0, col0).
fn tile(thread: u32, row0: u32, col0: u32) {
    let whole = min(params.group, params.x_group) == params.k;
    if whole {
        whole_rows(thread, row0, col0 + thread / TEAM * 4u);
    } else {
        spans(thread, row0, col0 + thread / TEAM * 4u);
    }
    workgroupBarrier();
    let row = row0 + thread / COLS;
    let col = col0 + thread % COLS;
    if row < params.m && col < params.n {
        var y = team_sum(thread / COLS, thread % COLS, whole);
        if whole {
            y *= scales[row * groups_of(params.x_group)] * weight_scales[col * groups_of(params.group)];
        }
        store(row * params.n + col, y);
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: u32) {
    let index = linear_workgroup(workgroup, grid);
#ifdef batch
    // The host makes a workgroup for each tile of the weight's rows.
    let col0 = index * COLS;
    if col0 >= params.n {
        return;
    }
    for (var row0 = 0u; row0 < params.m; row0 += ROWS) {
        workgroupBarrier(); // the last tile's parts may still be read
        tile(thread, row0, col0);
    }
#else
    // Down the rows of codes first: the weight then comes from cache for all but the first 8.
    let tile_rows = (params.m + ROWS - 1u) / ROWS;
    if index / tile_rows * COLS < params.n {
        tile(thread, index % tile_rows * ROWS, index / tile_rows * COLS);
    }
#endif
}
