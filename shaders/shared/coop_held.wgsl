// 16 x 16 matrices as in coop.wgsl, but left factors are held while their tile gets other contents, tiles have pitches of
// their own, `PITCH_X` and `PITCH_W`, as sums have, `SUM_PITCH`, which can be got back. The importing shader has `tile_x`,
// `tile_w` and `sums`, of vec4s.
// There is no emulation: drivers for CPUs would compile one for minutes.
#import matrices

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

// Sixteen rows of 16 sums.
fn put_sum(c: Sum, at: u32) {
    coopStoreT(c, &sums[at], SUM_PITCH);
}

fn get_sum(at: u32) -> Sum {
    return coopLoadT<Sum>(&sums[at], SUM_PITCH);
}
