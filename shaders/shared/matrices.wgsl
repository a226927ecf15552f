// 16 x 16 matrices that the 32 threads of a subgroup hold together: f16 factors, f32 sums. The importing shader has `sums` of vec4s in
// workgroup memory, by which sums come and go, `pitch` vec4s from a row to the next.
//
// With the word `coop_emulated` plain code does the same, for tests on drivers without such matrices: a factor is where it is in a tile, of which
// the importing shader gives vec4s (`tile_at`), and must still be there when it is multiplied; a thread holds elements
// (2 e + lane / 16, lane % 16), e < 8, of a sum.
#import warp

#ifdef coop_emulated
struct Factor {
    tile: u32,
    at: u32,
    pitch: u32, // vec4s from a row of the tile to the next
    turned: bool, // the tile's rows are the matrix's columns
}

alias Left = Factor;
alias Right = Factor;
alias Sum = array<f32, 8>;

// Four elements of a row or column of the matrix, which is a line of the tile or lies `across` its lines.
fn four(f: Factor, line: u32, first: u32, across: bool) -> vec4<f32> {
    if !across {
        return vec4<f32>(tile_at(f.tile, f.at + line * f.pitch + first / 4u));
    }
    let at = f.at + first * f.pitch + line / 4u;
    let near = vec2(tile_at(f.tile, at)[line % 4u], tile_at(f.tile, at + f.pitch)[line % 4u]);
    let far = vec2(tile_at(f.tile, at + 2u * f.pitch)[line % 4u], tile_at(f.tile, at + 3u * f.pitch)[line % 4u]);
    return vec4<f32>(vec4(near, far));
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        for (var k = 0u; k < 16u; k += 4u) {
            let row = four(a, 2u * e + own_lane / 16u, k, a.turned);
            sum[e] += dot(row, four(b, own_lane % 16u, k, !b.turned));
        }
    }
    return sum;
}

fn times(c: Sum, factor: f32) -> Sum {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        sum[e] *= factor;
    }
    return sum;
}

fn put_matrix(c: Sum, at: u32, pitch: u32) {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        let column = own_lane % 16u;
        sums[at + (2u * e + own_lane / 16u) * pitch + column / 4u][column % 4u] = sum[e];
    }
}

fn get_matrix(at: u32, pitch: u32) -> Sum {
    var sum: Sum;
    for (var e = 0u; e < 8u; e++) {
        let column = own_lane % 16u;
        sum[e] = sums[at + (2u * e + own_lane / 16u) * pitch + column / 4u][column % 4u];
    }
    return sum;
}
#else
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    return coopMultiplyAdd(a, b, c);
}

fn times(c: Sum, factor: f32) -> Sum {
    return c * factor;
}

// Sixteen rows of 16 sums.
fn put_matrix(c: Sum, at: u32, pitch: u32) {
    coopStoreT(c, &sums[at], pitch);
}

fn get_matrix(at: u32, pitch: u32) -> Sum {
    return coopLoadT<Sum>(&sums[at], pitch);
}
#endif
