use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm");
}

#[test]
fn rejects_weight_of_wrong_length() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let weight = d.alloc(DType::F32, [7]).unwrap();
    let out = d.alloc(DType::F32, [2, 8]).unwrap();
    let error = kernels::rms_norm(&mut Plan::new(&d), &x, &weight, &out, 1e-5).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "weight", .. }), "{error}");
}
