// Sums that lose nothing to rounding (Knuth's TwoSum).

// WGSL lets compilers fuse and reorder float operations (15.7.4.4), which would cancel the compensation. They cannot
// see through this: `zero` is 0, which no compiler knows.
fn exactly(x: f32, zero: u32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ zero);
}

// a + b rounded, and what the rounding lost.
fn two_sum(a: f32, b: f32, zero: u32) -> vec2<f32> {
    let total = exactly(a + b, zero);
    let added = exactly(total - a, zero);
    let kept = exactly(a - exactly(total - added, zero), zero);
    return vec2(total, exactly(kept + exactly(b - added, zero), zero));
}
