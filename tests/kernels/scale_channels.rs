use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("scale_channels");
}

#[test]
fn rejects_scale_of_wrong_length() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let scale = d.alloc(DType::F32, [2]).unwrap();
    let out = d.alloc(DType::F32, [2, 8]).unwrap();
    let error = kernels::scale_channels(&mut Plan::new(&d), &x, &scale, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "scale", .. }), "{error}");
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let scale = d.alloc(DType::F32, [8]).unwrap();
    let out = d.alloc(DType::F32, [8, 2]).unwrap();
    let error = kernels::scale_channels(&mut Plan::new(&d), &x, &scale, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}

#[test]
fn rejects_integer_input() {
    let d = Device::Cpu;
    let x = d.alloc(DType::U32, [2, 8]).unwrap();
    let scale = d.alloc(DType::F32, [8]).unwrap();
    let out = d.alloc(DType::F32, [2, 8]).unwrap();
    let error = kernels::scale_channels(&mut Plan::new(&d), &x, &scale, &out).unwrap_err();
    assert!(matches!(error, Error::DType { arg: "x", .. }), "{error}");
}
