use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_mix");
}

/// The error for a matrix of `order` on `[2, 24]` with signs for order 12.
fn error(out: [usize; 2], signs: DType, order: usize, stride: usize) -> Error {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::F32, [2, 24]).unwrap(), d.alloc(DType::F32, out).unwrap());
    let signs = d.alloc(signs, [12, 1]).unwrap();
    kernels::hadamard_mix(&mut Plan::new(&d), &x, &signs, &out, order, stride, 1.0).unwrap_err()
}

#[test]
fn rejects_signs_of_another_order() {
    assert!(matches!(error([2, 24], DType::U32, 24, 1), Error::Shape { arg: "signs", .. }));
    assert!(matches!(error([2, 24], DType::F32, 12, 2), Error::DType { arg: "signs", .. }));
}

#[test]
fn rejects_stride_that_does_not_divide() {
    let error = error([2, 24], DType::U32, 12, 3);
    assert_eq!(error.to_string(), "hadamard_mix: `x`: order 12 times stride 3 does not divide 24 columns");
}

#[test]
fn rejects_output_of_another_shape() {
    assert!(matches!(error([24, 2], DType::U32, 12, 2), Error::Shape { arg: "out", .. }));
}

#[test]
fn rejects_order_without_construction() {
    let error = kernels::hadamard_signs(&Device::Cpu, 92).unwrap_err();
    assert_eq!(error.to_string(), "hadamard_mix: order 92: there is no construction of a matrix");
}
