// 16 x 16 matrices as in coop.wgsl, but left factors are held while their tile gets other contents, tiles have pitches of
// their own, `PITCH_X` and `PITCH_W`, as sums have, `SUM_PITCH`, which can be got back. The importing shader has `tile_x`,
// `tile_w` and `sums`, of vec4s.
// Emulated, as products of chunks are, factors are not held, and their tiles must stay as they are.
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
