// Factors of matrices.wgsl from tiles `tile_x` [row, k] and `tile_w` [column, k], or [k, column], of vec4<f16> in workgroup memory, `PITCH_X`
// and `PITCH_W` vec4s from a row to the next, and sums by way of `sums`, `SUM_PITCH` vec4s likewise: what the importing shader has. Matrices
// are loaded and stored at multiples of 16 bytes, also where a pointer is not one (an H100 then takes the one below): every variable in
// workgroup memory is of whole 16 bytes. Emulated, factors are not held, and their tiles must stay as they are until they are multiplied.
#import matrices

#ifdef coop_emulated
fn tile_at(tile: u32, at: u32) -> vec4<f16> {
    if tile == 0u {
        return tile_x[at];
    }
    return tile_w[at];
}

fn left(at: u32) -> Left {
    return Factor(0u, at, PITCH_X, false);
}

fn right(at: u32) -> Right {
    return Factor(1u, at, PITCH_W, true);
}
#else
fn left(at: u32) -> Left {
    return coopLoadT<Left>(&tile_x[at], PITCH_X);
}

// Of a tile whose rows are the matrix's columns.
fn right(at: u32) -> Right {
    return coopLoad<Right>(&tile_w[at], PITCH_W);
}

// Of one whose rows are the matrix's.
fn right_by_rows(at: u32) -> Right {
    return coopLoadT<Right>(&tile_w[at], PITCH_W);
}
#endif

// Sixteen rows of 16 sums.
fn put_sum(c: Sum, at: u32) {
    put_matrix(c, at, SUM_PITCH);
}

fn get_sum(at: u32) -> Sum {
    return get_matrix(at, SUM_PITCH);
}
