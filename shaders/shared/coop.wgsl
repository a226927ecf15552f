// 16 x 16 matrices that the 32 threads of a subgroup hold together: f16 factors, f32 sums. The importing shader has the
// tiles `tile_x` [row, k] and `tile_w` [column, k] of vec4<f16>, and `sums` of vec4s, in workgroup memory, and `const PITCH`,
// vec4s from a row of a tile to the next. Matrices are loaded and stored at multiples of 16 bytes, also where a pointer is not
// one (an H100 then takes the one below): every variable in workgroup memory is of whole 16 bytes. With the word `coop_emulated` plain code does the same with the same
// addresses, for tests on drivers without such matrices: a factor is the place it was loaded from, and a thread holds
// elements (2 e + lane / 16, lane % 16), e < 8, of a sum.
#import warp

#ifdef coop_emulated
alias Left = u32;
alias Right = u32;
alias Sum = array<f32, 8>;

fn left(at: u32) -> Left {
    return at;
}

fn right(at: u32) -> Right {
    return at;
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        let row = a + (2u * e + own_lane / 16u) * PITCH;
        let col = b + own_lane % 16u * PITCH;
        for (var k = 0u; k < 4u; k++) {
            sum[e] += dot(vec4<f32>(tile_x[row + k]), vec4<f32>(tile_w[col + k]));
        }
    }
    return sum;
}

// Sixteen rows of four quads of sums.
fn put_sum(c: Sum, at: u32) {
    var sum = c;
    for (var e = 0u; e < 8u; e++) {
        let column = own_lane % 16u;
        sums[at + (2u * e + own_lane / 16u) * 4u + column / 4u][column % 4u] = sum[e];
    }
}
#else
alias Left = coop_mat16x16<f16, A>;
alias Right = coop_mat16x16<f16, B>;
alias Sum = coop_mat16x16<f32, C>;

fn left(at: u32) -> Left {
    return coopLoadT<Left>(&tile_x[at], PITCH);
}

// The tile's rows are the matrix's columns.
fn right(at: u32) -> Right {
    return coopLoad<Right>(&tile_w[at], PITCH);
}

fn multiply_add(a: Left, b: Right, c: Sum) -> Sum {
    return coopMultiplyAdd(a, b, c);
}

fn put_sum(c: Sum, at: u32) {
    coopStoreT(c, &sums[at], 4u);
}
#endif
