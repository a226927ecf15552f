#[test]
fn matches_reference() {
    super::common::check_all("matvec_grouped_relu2");
}
