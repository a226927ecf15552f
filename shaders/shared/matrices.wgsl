// 16 x 16 matrices that the 32 threads of a subgroup hold together: f16 factors, f32 sums. The importing shader has `sums` of vec4s in
// workgroup memory, by which sums come and go, `pitch` vec4s from a row to the next.
//
// With the word `coop_emulated` plain code does the same, for tests on drivers without such matrices: a factor is where it is in a tile, of which
// the importing shader gives vec4s (`tile_at`), and must still be there when it is multiplied; a thread holds half a row of a sum,
// elements 8 (lane % 2) on of row lane / 2, in two vec4s.
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
alias Sum = array<vec4<f32>, 2>;

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
    for (var e = 0u; e < 2u; e++) {
        let column = own_lane % 2u * 8u + 4u * e;
        for (var k = 0u; k < 16u; k += 4u) {
            let row = four(a, own_lane / 2u, k, a.turned);
            let near = vec2(dot(row, four(b, column, k, !b.turned)), dot(row, four(b, column + 1u, k, !b.turned)));
            let far = vec2(dot(row, four(b, column + 2u, k, !b.turned)), dot(row, four(b, column + 3u, k, !b.turned)));
            sum[e] += vec4(near, far);
        }
    }
    return sum;
}

fn times(c: Sum, factor: f32) -> Sum {
    return Sum(c[0] * factor, c[1] * factor);
}

// Where a thread's half row is.
fn half_row(at: u32, pitch: u32) -> u32 {
    return at + own_lane / 2u * pitch + own_lane % 2u * 2u;
}

fn put_matrix(c: Sum, at: u32, pitch: u32) {
    sums[half_row(at, pitch)] = c[0];
    sums[half_row(at, pitch) + 1u] = c[1];
}

fn get_matrix(at: u32, pitch: u32) -> Sum {
    return Sum(sums[half_row(at, pitch)], sums[half_row(at, pitch) + 1u]);
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
