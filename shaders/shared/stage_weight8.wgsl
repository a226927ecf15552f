// 16 int8 codes of a row of the tile `tile_w` of coop_tiles.wgsl: its first half or its second.
#import halves

fn stage_weight(row: u32, half: u32, words: vec4<u32>) {
    let at = row * PITCH + 4u * half;
    tile_w[at] = halves8(words.x);
    tile_w[at + 1u] = halves8(words.y);
    tile_w[at + 2u] = halves8(words.z);
    tile_w[at + 3u] = halves8(words.w);
}
