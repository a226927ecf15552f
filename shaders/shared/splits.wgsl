// How `splits` workgroups divide the keys of one sequence: each takes a run of `share` keys, the last ones none where there
// are few. The twin of src/reference/splits.rs.

const LEAST = 16u; // keys that are worth a workgroup

fn share_of(keys: u32, splits: u32) -> u32 {
    return max((keys + splits - 1u) / splits, LEAST);
}
