// What a matrix product does with a finished sum; the twin of `kernels::Epilogue`.
// The importing shader has `params.epilogue` and the output `out`; a thread owns the elements it stores.

const RELU_SQUARED = 1u;
const ADD = 2u;

fn store(index: u32, y: f32) {
    store_onto(index, y, addend(index));
}

// What `store` will add to; to be read early, where the sum takes long.
fn addend(index: u32) -> f32 {
    if params.epilogue == ADD {
        return out[index];
    }
    return 0.0;
}

fn store_onto(index: u32, y: f32, addend: f32) {
    var result = y;
    if params.epilogue == RELU_SQUARED {
        result = select(y * y, 0.0, y < 0.0); // a maximum would make 0 of NaN
    } else if params.epilogue == ADD {
        result += addend;
    }
    out[index] = result;
}
