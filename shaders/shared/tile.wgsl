// The tile of a matrix product: 8 x 8 threads compute 64 x 64 outputs, each thread 8 rows by 8 columns held in
// registers as four 4 x 4 blocks. Operands come straight from storage: no barriers. A thread's columns are 8
// apart, so that neighbouring threads store neighbouring outputs. The importing shader has `params.m` and
// `params.n`, and clamps row numbers when it loads: rows beyond the end are computed and not stored.
#import store_columns

const SIDE = 8u; // threads along each side
const BLOCK = 4u * SIDE; // from a block's first column to the next block's

struct Corner {
    row: u32,
    col: u32,
}

// The thread's first row and column.
fn corner(workgroup: vec3<u32>, thread: vec3<u32>) -> Corner {
    return Corner((workgroup.y * SIDE + thread.y) * 8u, workgroup.x * SIDE * 8u + thread.x);
}

// Four columns `SIDE` apart, clamped.
fn columns(col: u32) -> vec4<u32> {
    return min(vec4(col, col + SIDE, col + 2u * SIDE, col + 3u * SIDE), vec4(params.n - 1u));
}

// Four rows, clamped.
fn rows(row: u32) -> vec4<u32> {
    return min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(params.m - 1u));
}

// `block[i][j]` belongs to row `row + i`, column `col + j * SIDE`. Written out: a loop would index registers.
fn store_block(block: mat4x4<f32>, row: u32, col: u32) {
    store_row(block[0], row, col);
    store_row(block[1], row + 1u, col);
    store_row(block[2], row + 2u, col);
    store_row(block[3], row + 3u, col);
}

fn store_row(values: vec4<f32>, row: u32, col: u32) {
    if row >= params.m {
        return;
    }
    store_if(values.x, row, col);
    store_if(values.y, row, col + SIDE);
    store_if(values.z, row, col + 2u * SIDE);
    store_if(values.w, row, col + 3u * SIDE);
}

fn store_if(value: f32, row: u32, col: u32) {
    if col < params.n {
        store_at(row, col, value);
    }
}
