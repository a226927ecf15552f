use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns};
use wgquant::tensor::{DType, unpack_halves};

use super::common::{assert_close, check_all, golden, gpu};

#[test]
fn matches_reference() {
    check_all("causal_conv1d");
}

#[test]
fn matches_golden_values() {
    let g = golden();
    for (d, nmse) in [(Device::Cpu, 1e-12), (gpu(), 1e-11)] {
        let input = d.upload_f32([11, 24], &g.f32("conv1d_silu.x")).unwrap();
        let weight = d.upload_f32([24, 4], &g.f32("conv1d_silu.weight")).unwrap();
        let bias = d.upload_f32([24], &g.f32("conv1d_silu.bias")).unwrap();
        let state = d.alloc(DType::F32, [24, 4]).unwrap();
        let out = d.alloc(DType::F32, [11, 24]).unwrap();
        let mut plan = Plan::new(&d);
        let input = Columns::new("test", &input, 0, 24).unwrap();
        kernels::causal_conv1d(&mut plan, &input, &state, &weight, &bias, &out).unwrap();
        kernels::causal_conv1d_state(&mut plan, &input, &state).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_close(&block_on(d.read_f32(&out)).unwrap(), &g.f32("conv1d_silu.y"), nmse);
        assert_eq!(block_on(d.read_f32(&state)).unwrap(), g.f32("conv1d_silu.state_after"));
    }
}

/// The argument refused when one tensor has the wrong shape.
fn refused(shapes: [[usize; 2]; 4]) -> &'static str {
    let d = Device::Cpu;
    let input = d.alloc(DType::F32, [3, 10]).unwrap();
    let input = Columns::new("test", &input, 2, 8).unwrap();
    let [state, weight, bias, out] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    match kernels::causal_conv1d(&mut Plan::new(&d), &input, &state, &weight, &bias, &out) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. }) => arg,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_shapes() {
    assert_eq!(refused([[8, 4], [8, 4], [1, 8], [3, 8]]), "none");
    assert_eq!(refused([[8, 3], [8, 4], [1, 8], [3, 8]]), "state");
    assert_eq!(refused([[8, 4], [7, 4], [1, 8], [3, 8]]), "weight");
    assert_eq!(refused([[8, 4], [8, 4], [1, 7], [3, 8]]), "bias");
    assert_eq!(refused([[8, 4], [8, 4], [1, 8], [3, 10]]), "out");
}

#[test]
fn rejects_weight_without_taps() {
    let d = Device::Cpu;
    let input = d.alloc(DType::F32, [3, 8]).unwrap();
    let input = Columns::new("test", &input, 0, 8).unwrap();
    let none = d.alloc(DType::F32, [8, 0]).unwrap();
    let bias = d.alloc(DType::F32, [8]).unwrap();
    let out = d.alloc(DType::F32, [3, 8]).unwrap();
    let error = kernels::causal_conv1d(&mut Plan::new(&d), &input, &none, &none, &bias, &out).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}

/// Numbers f16 can hold are rounded to it, and others are the last in it; channels go by pairs.
#[test]
fn f16_outputs() {
    for d in [Device::Cpu, gpu()] {
        let input = d.upload_f32([1, 4], &[1.0e6, -3.0, 20.0, 30.0]).unwrap();
        let input = Columns::new("test", &input, 0, 4).unwrap();
        let (state, weight) = (d.alloc(DType::F32, [4, 1]).unwrap(), d.upload_f32([4, 1], &[1.0; 4]).unwrap());
        let bias = d.upload_f32([4], &[0.0, 0.0, 0.01, 0.0]).unwrap();
        let out = d.alloc(DType::F16, [1, 4]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::causal_conv1d(&mut plan, &input, &state, &weight, &bias, &out).unwrap();
        plan.record().unwrap().run().unwrap();
        let got = unpack_halves(&block_on(d.read(&out)).unwrap());
        assert_eq!(got, [65504.0, half::f16::from_f32(-0.142_277_6).to_f32(), 20.015_625, 30.0]);
    }
}

#[test]
fn rejects_odd_channels_of_f16() {
    let d = Device::Cpu;
    let input = d.alloc(DType::F32, [3, 5]).unwrap();
    let input = Columns::new("test", &input, 0, 5).unwrap();
    let (state, weight) = (d.alloc(DType::F32, [5, 4]).unwrap(), d.alloc(DType::F32, [5, 4]).unwrap());
    let (bias, out) = (d.alloc(DType::F32, [5]).unwrap(), d.alloc(DType::F16, [3, 5]).unwrap());
    let error = kernels::causal_conv1d(&mut Plan::new(&d), &input, &state, &weight, &bias, &out).unwrap_err();
    assert!(error.to_string().contains("5 channels"), "{error}");
}
