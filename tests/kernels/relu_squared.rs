use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("relu_squared");
}

/// The file has the activation's result; its input is `x @ up.T`, taken here in f64.
#[test]
fn matches_golden() {
    let golden = golden();
    let (x, up, want) = (golden.f32("relu2_mlp.x"), golden.f32("relu2_mlp.up"), golden.f32("relu2_mlp.act"));
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32;
    let input: Vec<f32> = x.chunks(32).flat_map(|x| up.chunks(32).map(move |w| dot(x, w))).collect();
    for d in [Device::Cpu, gpu()] {
        let x = d.upload_f32([4, 84], &input).unwrap();
        let out = d.alloc(DType::F32, [4, 84]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::relu_squared(&mut plan, &x, &out).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_close(&block_on(d.read_f32(&out)).unwrap(), &want, 1e-12);
    }
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let out = d.alloc(DType::F32, [2, 7]).unwrap();
    let error = kernels::relu_squared(&mut Plan::new(&d), &x, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}

#[test]
fn rejects_half_output() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let out = d.alloc(DType::F16, [2, 8]).unwrap();
    let error = kernels::relu_squared(&mut Plan::new(&d), &x, &out).unwrap_err();
    assert!(matches!(error, Error::DType { arg: "out", .. }), "{error}");
}
