// How workgroups share the rows (head, p) of a Mamba-2 mixer's heads: a tile is 32 of one group, by 8 threads each. The importing shader has
// `params` with heads, head_dim, groups and state.

const WG = 256u;
const LANES = 8u;
const ROWS = 32u;

// Where a thread stands.
struct Spot {
    thread: u32,
    group: u32, // the same for all of a workgroup
    head: u32,
    row: u32, // of the rows of all heads
    inside: bool, // other threads read the group's last row and write nothing
}

fn channels() -> u32 {
    return params.heads * params.head_dim + 2u * params.groups * params.state;
}

// Rows of a group's heads.
fn group_rows() -> u32 {
    return params.heads / params.groups * params.head_dim;
}

// Workgroups of a group.
fn tiles() -> u32 {
    return (group_rows() + ROWS - 1u) / ROWS;
}

// Row r of the `item`th workgroup's, all sequences' counted.
fn spot_of_row(item: u32, r: u32, thread: u32) -> Spot {
    let group = item / tiles() % params.groups;
    let at = item % tiles() * ROWS + r;
    let row = group * group_rows() + min(at, group_rows() - 1u);
    return Spot(thread, group, row / params.head_dim, row, at < group_rows());
}

fn spot_of(item: u32, thread: u32) -> Spot {
    return spot_of_row(item, thread / LANES, thread);
}

// Channel of element i of B, or of C behind it.
fn shared_channel(group: u32, i: u32) -> u32 {
    let at = params.heads * params.head_dim + group * params.state;
    return at + select(i, params.groups * params.state + i - params.state, i >= params.state);
}
