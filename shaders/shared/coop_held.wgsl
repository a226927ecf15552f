// 16 x 16 matrices as in coop.wgsl, but left factors are held while their tile gets other contents, tiles have pitches of
// their own, `PITCH_X` and `PITCH_W`, and sums can be got back. The importing shader has `tile_x`, `tile_w` and `sums`.
#import place

#ifdef coop_emulated
// The thread's rows 2 e + lane / 16, e < 8, of a left factor; the place of a right one, and whether its tile's rows are its
// columns.
alias Left = array<vec4<f32>, 32>;
alias Sum = array<f32, 8>;

struct Right {
    at: u32,
    by_columns: bool,
}

var<private> own_lane: u32;

fn warp_of(place: Place) -> u32 {
    own_lane = place.thread % 32u;
    return place.thread / 32u;
}

fn left(at: u32) -> Left {
    var rows = Left();
    for (var i = 0u; i < 32u; i++) {
        rows[i] = vec4<f32>(tile_x[at + (i / 4u * 2u + own_lane / 16u) * PITCH_X + i % 4u]);
    }
    return rows;
}

fn right(at: u32) -> Right {
    return Right(at, true);
}

fn right_by_rows(at: u32) -> Right {
    return Right(at, false);
}

// Four rows of the factor's column that is the thread's.
fn factor(b: Right, k: u32) -> vec4<f32> {
    let column = own_lane % 16u;
    if b.by_columns {
        return vec4<f32>(tile_w[b.at + column * PITCH_W + k]);
    }
    var four = vec4(0.0);
    for (var i = 0u; i < 4u; i++) {
        four[i] = f32(tile_w[b.at + (4u * k + i) * PITCH_W + column / 4u][column % 4u]);
    }
    return four;
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    var rows = a;
    var sum = c;
    for (var k = 0u; k < 4u; k++) {
        let four = factor(b, k);
        for (var e = 0u; e < 8u; e++) {
            sum[e] += dot(rows[4u * e + k], four);
        }
    }
    return sum;
}

fn put_sum(c: Sum, at: u32) {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        sums[at + (2u * e + own_lane / 16u) * 16u + own_lane % 16u] = sum[e];
    }
}

fn get_sum(at: u32) -> Sum {
    var sum = Sum();
    for (var e = 0u; e < 8u; e++) {
        sum[e] = sums[at + (2u * e + own_lane / 16u) * 16u + own_lane % 16u];
    }
    return sum;
}
#else
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

fn warp_of(place: Place) -> u32 {
    return place.subgroup;
}

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

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    return coopMultiplyAdd(a, b, c);
}

// Sixteen rows of 16 sums.
fn put_sum(c: Sum, at: u32) {
    coopStoreT(c, &sums[at], 16u);
}

fn get_sum(at: u32) -> Sum {
    return coopLoadT<Sum>(&sums[at], 16u);
}
#endif
