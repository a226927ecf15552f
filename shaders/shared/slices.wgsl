// Which outputs a workgroup makes of a product whose columns may be cut in slices (split-K), so that there are tiles for all processors. The host
// has as many slices along x, of whole rounds of columns and of whole spans of the scales, and tiles along y and z, at the end perhaps more than there are. The importing
// shader has the parameters of a product.
#import index

struct Tile {
    row: u32, // its first, of codes
    col: u32, // and of the weight; beyond the last tile out of the weight
    first: u32, // columns of the operands from here on
    end: u32, // up to here
    above: u32, // rows of out before those of the slice
}

// Down the tokens first: their codes stay in cache, and the weight comes from there for all but the first of them. What tells slices apart is the same for all threads
// without a division, so it takes none of their registers.
fn tile_of(workgroup: vec3<u32>, grid: vec3<u32>, rows: u32, cols: u32) -> Tile {
    let index = linear_workgroup(workgroup.yzx, grid.yzx);
    let down = (params.m + rows - 1u) / rows;
    let first = workgroup.x * params.slice;
    let end = min(first + params.slice, params.k);
    return Tile(index % down * rows, index / down * cols, first, end, workgroup.x * params.m);
}
