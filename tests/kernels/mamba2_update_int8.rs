use wgquant::kernels::{SsdDims, fuses_stored};

#[test]
fn matches_reference() {
    super::common::check_all("mamba2_update_int8");
}

#[test]
fn takes_whole_groups_and_four_taps() {
    let dims = SsdDims { heads: 128, head_dim: 64, groups: 8, state: 128, chunk: 128 };
    assert!(fuses_stored(dims, 4, 64) && !fuses_stored(dims, 4, 32) && !fuses_stored(dims, 3, 64));
    assert!(fuses_stored(SsdDims { groups: 128, ..dims }, 4, 1));
}
