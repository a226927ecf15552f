// Tokens since the state was last rounded: of each the sum of dt A up to it, dt x and B. The importing shader has
// `recent`, of one sequence behind the other, and `params` with heads, head_dim, groups, state and window.

var<private> recent_first: u32; // row of the sequence's first token

// Of the sequence that the functions below mean.
fn start_recent(sequence: u32) {
    recent_first = sequence * params.window;
}

fn recent_row(token: u32) -> u32 {
    return (recent_first + token) * (params.heads * (1u + params.head_dim) + params.groups * params.state);
}

fn recent_log(token: u32, head: u32) -> f32 {
    return recent[recent_row(token) + head];
}

fn recent_x(token: u32, row: u32) -> f32 {
    return recent[recent_row(token) + params.heads + row];
}

fn recent_b(token: u32, at: u32) -> f32 {
    return recent[recent_row(token) + params.heads * (1u + params.head_dim) + at];
}
