// Where a product of several rows stores: its columns may be some of a wider row's, as a weight larger than a binding is
// multiplied part by part. The importing shader has `params.out_stride`, the columns of a whole row, and `params.out_first`.
#import epilogue

fn place_at(row: u32, col: u32) -> u32 {
    return row * params.out_stride + params.out_first + col;
}

fn store_at(row: u32, col: u32, y: f32) {
    store(place_at(row, col), y);
}
