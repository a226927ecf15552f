// epilogue.wgsl of four outputs next to each other, which are stored as one: `out` is of vec4s, and rows of it and the columns of the
// product, `params.out_first` on, are whole ones.

const RELU_SQUARED = 1u;
const ADD = 2u;

fn quad_at(row: u32, col: u32) -> u32 {
    return (row * params.out_stride + params.out_first + col) / 4u;
}

// What `store_onto` will add to; to be read early, where the sum takes long.
fn addend(index: u32) -> vec4<f32> {
    if params.epilogue == ADD {
        return out[index];
    }
    return vec4(0.0);
}

fn store_onto(index: u32, y: vec4<f32>, addend: vec4<f32>) {
    var result = y;
    if params.epilogue == RELU_SQUARED {
        result = select(y * y, vec4(0.0), y < vec4(0.0)); // a maximum would make 0 of NaN
    } else if params.epilogue == ADD {
        result += addend;
    }
    out[index] = result;
}
