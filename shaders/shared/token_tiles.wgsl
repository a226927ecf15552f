// Factors of what tokens add to a state, x and B of a step: the importing shader has the tiles `tile_x` and `tile_b` of vec4<f16>, a token a
// row, and `PITCH_X` and `PITCH_B`, vec4s from a token to the next.
#import matrices

#ifdef coop_emulated
fn tile_at(tile: u32, at: u32) -> vec4<f16> {
    if tile == 0u {
        return tile_x[at];
    }
    return tile_b[at];
}

fn left(at: u32) -> Left {
    return Factor(0u, at, PITCH_X, true);
}

fn right(at: u32) -> Right {
    return Factor(1u, at, PITCH_B, false);
}
#else
// The tile's rows are the matrix's columns.
fn left(at: u32) -> Left {
    return coopLoad<Left>(&tile_x[at], PITCH_X);
}

fn right(at: u32) -> Right {
    return coopLoadT<Right>(&tile_b[at], PITCH_B);
}
#endif
