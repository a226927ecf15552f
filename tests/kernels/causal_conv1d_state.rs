use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("causal_conv1d_state");
}

#[test]
fn rejects_state_of_other_channels() {
    let d = Device::Cpu;
    let input = d.alloc(DType::F32, [3, 8]).unwrap();
    let input = Columns::new("test", &input, 0, 8).unwrap();
    let state = d.alloc(DType::F32, [7, 4]).unwrap();
    let error = kernels::causal_conv1d_state(&mut Plan::new(&d), &input, &state).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "state", .. }), "{error}");
    let empty = d.alloc(DType::F32, [8, 0]).unwrap();
    let error = kernels::causal_conv1d_state(&mut Plan::new(&d), &input, &empty).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}
