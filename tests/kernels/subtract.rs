use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("subtract");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |out: [usize; 2], dtype| {
        let (x, out) = (d.alloc(DType::F32, [2, 8]).unwrap(), d.alloc(dtype, out).unwrap());
        match kernels::subtract(&mut Plan::new(&d), &x, &out) {
            Ok(()) => "none",
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(refused([2, 8], DType::F32), "none");
    assert_eq!(refused([2, 7], DType::F32), "out");
    assert_eq!(refused([2, 8], DType::F16), "out");
}
