// What the one-token products share: a workgroup computes four outputs, its threads taking every WG-th word of
// the weight rows. The importing shader has `const WG` and `params.n`.
#import epilogue
#import index
#import reduce4

// Four rows of the weight, clamped: rows beyond the end are computed and not stored.
fn rows4(row: u32) -> vec4<u32> {
    return min(vec4(row, row + 1u, row + 2u, row + 3u), vec4(params.n - 1u));
}

// Thread r < 4 stores output `row + r`.
fn store4(row: u32, thread: u32, y: f32) {
    if thread < 4u && row + thread < params.n {
        store(row + thread, y);
    }
}
