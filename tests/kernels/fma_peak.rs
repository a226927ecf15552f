use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("fma_peak");
}

/// After one round a chain is `(x + j) / 256 + 255/512`; sixteen of them, by hand.
#[test]
fn one_round_by_hand() {
    let d = Device::Cpu;
    let (x, out) = (d.upload_f32([1], &[8.0]).unwrap(), d.alloc(DType::F32, [1]).unwrap());
    let mut plan = Plan::new(&d);
    kernels::fma_peak(&mut plan, &x, &out, 1).unwrap();
    plan.record().unwrap().run().unwrap();
    let want = (16.0 * 8.0 + 120.0) / 256.0 + 16.0 * 255.0 / 512.0;
    assert_eq!(block_on(d.read_f32(&out)).unwrap(), [want]);
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::F32, [8]).unwrap(), d.alloc(DType::F32, [7]).unwrap());
    let error = kernels::fma_peak(&mut Plan::new(&d), &x, &out, 1).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}
