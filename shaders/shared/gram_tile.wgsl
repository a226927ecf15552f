// totals += transpose(a) * b over the tokens of a launch, 128 rows by 128 columns a workgroup, from tiles of 16 tokens. A
// thread: 4 rows from 4 y and from 64 + 4 y, by columns likewise. Totals are compensated, as a calibration adds up thousands
// of launches. The importing shader has `params`, `totals` and `lost`; `rows` and `columns`, their sizes; `left_out`, of tiles by
// their first row and column; and `a_at`, `b_at` and `factor`, with which the sum of a row and a column is multiplied.
#import compensated
#import index

const SIDE = 16u;
const TILE = 128u;
const DEPTH = 16u; // tokens of a tile

var<workgroup> a_tile: array<vec4<f32>, DEPTH * TILE / 4u>; // [token, row / 4]
var<workgroup> b_tile: array<vec4<f32>, DEPTH * TILE / 4u>; // [token, column / 4]

fn outer(x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(x.x * y, x.y * y, x.z * y, x.w * y);
}

// Adds one block of sums: `sum[i][j]` belongs to row + i, column + j.
fn add(row: u32, column: u32, sum: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        for (var j = 0u; j < 4u; j++) {
            let r = row + i;
            let c = column + j;
            if r < rows() && c < columns() {
                let at = r * columns() + c;
                let added = two_sum(totals[at], sum[i][j] * factor(r, c), params.zero);
                totals[at] = added.x;
                lost[at] += added.y;
            }
        }
    }
}

fn product(workgroup: vec3<u32>, grid: vec3<u32>, thread: vec3<u32>) {
    let across = (columns() + TILE - 1u) / TILE;
    let item = linear_workgroup(workgroup, grid);
    let row0 = item / across * TILE;
    let column0 = item % across * TILE;
    if row0 >= rows() || left_out(row0, column0) {
        return;
    }
    let own = (thread.y * SIDE + thread.x) % TILE; // the row and the column that it loads, of every second token
    let odd = (thread.y * SIDE + thread.x) / TILE;
    var s00 = mat4x4<f32>();
    var s01 = mat4x4<f32>();
    var s10 = mat4x4<f32>();
    var s11 = mat4x4<f32>();
    for (var first = 0u; first < params.tokens; first += DEPTH) {
        for (var t = odd; t < DEPTH; t += 2u) {
            a_tile[t * (TILE / 4u) + own / 4u][own % 4u] = a_at(first + t, row0 + own);
            b_tile[t * (TILE / 4u) + own / 4u][own % 4u] = b_at(first + t, column0 + own);
        }
        workgroupBarrier();
        for (var t = 0u; t < DEPTH; t++) {
            let x0 = a_tile[t * (TILE / 4u) + thread.y];
            let x1 = a_tile[t * (TILE / 4u) + SIDE + thread.y];
            let y0 = b_tile[t * (TILE / 4u) + thread.x];
            let y1 = b_tile[t * (TILE / 4u) + SIDE + thread.x];
            s00 += outer(x0, y0);
            s01 += outer(x0, y1);
            s10 += outer(x1, y0);
            s11 += outer(x1, y1);
        }
        workgroupBarrier();
    }
    let row = row0 + 4u * thread.y;
    let column = column0 + 4u * thread.x;
    add(row, column, s00);
    add(row, column + TILE / 2u, s01);
    add(row + TILE / 2u, column, s10);
    add(row + TILE / 2u, column + TILE / 2u, s11);
}
