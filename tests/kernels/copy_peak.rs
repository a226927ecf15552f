use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("copy_peak");
}

#[test]
fn rejects_words_that_are_no_vectors() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::U32, [6]).unwrap(), d.alloc(DType::U32, [6]).unwrap());
    let error = kernels::copy_peak(&mut Plan::new(&d), &x, &out).unwrap_err().to_string();
    assert!(error.contains("6 words"), "{error}");
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::U32, [8]).unwrap(), d.alloc(DType::U32, [4]).unwrap());
    let error = kernels::copy_peak(&mut Plan::new(&d), &x, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}
