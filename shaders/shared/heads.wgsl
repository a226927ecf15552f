// What a workgroup takes of stored states: `each` heads of one group of a sequence, which have B and C in common. The importing
// shader has `params` with heads, groups, state and each.

struct Heads {
    sequence: u32,
    first: u32, // head
    in_group: u32, // where the group's state elements begin among those of all groups
}

fn heads_of(item: u32) -> Heads {
    let shares = params.heads / params.each; // of a sequence
    let first = item % shares * params.each;
    return Heads(item / shares, first, first / (params.heads / params.groups) * params.state);
}
