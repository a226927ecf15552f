// The importing shader has `params.k`.

// All bits before the last column, none beyond. A comparison would become a branch.
fn mask_of(col: u32) -> u32 {
    return bitcast<u32>((bitcast<i32>(col) - bitcast<i32>(params.k)) >> 31u);
}
