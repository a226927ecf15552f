#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_matvec");
}
