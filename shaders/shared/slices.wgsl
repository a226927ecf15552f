// Which outputs a workgroup makes of a product whose columns may be cut in slices (split-K), so that there are tiles for all processors. The host
// has slices of whole rounds of columns and of whole spans of the scales. The importing shader has the parameters of a product.

struct Tile {
    row: u32, // its first, of codes
    col: u32, // and of the weight
    first: u32, // columns of the operands from here on
    end: u32, // up to here
    above: u32, // rows of out before those of the slice
}

// Down the tokens first, whose codes then stay in cache. Beyond the last tile `col` or `first` is.
fn tile_of(index: u32, rows: u32, cols: u32) -> Tile {
    let down = (params.m + rows - 1u) / rows;
    let across = (params.n + cols - 1u) / cols;
    let col = index / down;
    // Where parameters are constants, a single slice is none.
    let slice = select(0u, col / across, params.slice < params.k);
    let first = slice * params.slice;
    let end = min(first + params.slice, params.k);
    return Tile(index % down * rows, (col - slice * across) * cols, first, end, slice * params.m);
}
