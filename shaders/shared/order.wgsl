// Keys that order as the floats do, so that counting and comparing is exact. -0 and 0 have one key.

fn order_key(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    return select(bits | 0x80000000u, ~bits, bits > 0x80000000u);
}
