use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("causal_conv1d_update");
}

/// The argument refused: `tokens` input rows, then the shapes of weight, bias, state and out.
fn refused(tokens: usize, shapes: [[usize; 2]; 4]) -> &'static str {
    let d = Device::Cpu;
    let input = d.alloc(DType::F32, [tokens, 8]).unwrap();
    let input = Columns::new("test", &input, 0, 8).unwrap();
    let [weight, bias, state, out] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    match kernels::causal_conv1d_update(&mut Plan::new(&d), &input, &weight, &bias, &state, &out) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. }) => arg,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_shapes() {
    assert_eq!(refused(1, [[8, 4], [1, 8], [8, 4], [1, 8]]), "none");
    assert_eq!(refused(2, [[8, 4], [1, 8], [8, 4], [1, 8]]), "input");
    assert_eq!(refused(1, [[7, 4], [1, 8], [8, 4], [1, 8]]), "weight");
    assert_eq!(refused(1, [[8, 4], [1, 7], [8, 4], [1, 8]]), "bias");
    assert_eq!(refused(1, [[8, 4], [1, 8], [8, 3], [1, 8]]), "state");
    assert_eq!(refused(1, [[8, 4], [1, 8], [8, 4], [2, 8]]), "out");
}
