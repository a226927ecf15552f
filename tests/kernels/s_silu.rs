use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{assert_close, gpu};

fn run(d: &Device, x: &[f32], scale: &[f32]) -> Vec<f32> {
    let shape = [x.len() / scale.len(), scale.len()];
    let (x, scale) = (d.upload_f32(shape, x).unwrap(), d.upload_f32([shape[1]], scale).unwrap());
    let out = d.alloc(DType::F32, shape).unwrap();
    let mut plan = Plan::new(d);
    kernels::s_silu(&mut plan, &x, &scale, &out).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

#[test]
fn matches_reference() {
    super::common::check_all("s_silu");
}

/// The paper's identity: of a gate divided by s it gives SiLU divided by s; of one of the other sign, minus SiLU.
#[test]
fn is_silu_of_the_gate_before_smoothing() {
    let z: Vec<f32> = (0..120).map(|i| (i as f32 * 0.7).sin() * 6.0).collect();
    let s = [0.01f32, 0.5, 1.0, 3.0, 100.0, -1.0];
    let x: Vec<f32> = z.iter().enumerate().map(|(i, z)| z / s[i % 6]).collect();
    let silu = |z: f32| f64::from(z) / (1.0 + (-f64::from(z)).exp());
    let want: Vec<f32> = z.iter().map(|z| silu(*z) as f32).collect();
    for d in [Device::Cpu, gpu()] {
        let got: Vec<f32> = run(&d, &x, &s).iter().enumerate().map(|(i, v)| v * s[i % 6]).collect();
        assert_close(&got, &want, 1e-12);
    }
}

#[test]
fn does_not_overflow() {
    for d in [Device::Cpu, gpu()] {
        assert_eq!(run(&d, &[-3000.0, 3000.0], &[1.0, 50.0])[1], 3000.0);
        assert!(run(&d, &[-3000.0, 3000.0], &[1.0, 50.0])[0].abs() < 1e-30);
    }
}

#[test]
fn rejects_scale_of_wrong_length() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let scale = d.alloc(DType::F32, [2]).unwrap();
    let out = d.alloc(DType::F32, [2, 8]).unwrap();
    let error = kernels::s_silu(&mut Plan::new(&d), &x, &scale, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "scale", .. }), "{error}");
}

#[test]
fn rejects_half_output() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let scale = d.alloc(DType::F32, [8]).unwrap();
    let out = d.alloc(DType::F16, [2, 8]).unwrap();
    let error = kernels::s_silu(&mut Plan::new(&d), &x, &scale, &out).unwrap_err();
    assert!(matches!(error, Error::DType { arg: "out", .. }), "{error}");
}
