// Where attention's rows (sequence, token, query head of the kv head) are. The importing shader has `params`.

// First element of q of a row.
fn q_place(row: u32, kv: u32) -> u32 {
    let repeats = params.heads / params.kv_heads;
    let head = kv * repeats + row % repeats;
    return params.q_offset + row / repeats * params.q_stride + head * params.head_dim;
}

// Row of out of such a row.
fn out_row(row: u32, kv: u32) -> u32 {
    let repeats = params.heads / params.kv_heads;
    return row / repeats * params.heads + kv * repeats + row % repeats;
}
