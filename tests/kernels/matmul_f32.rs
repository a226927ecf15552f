use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue};
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("matmul_f32");
}

fn product(d: &Device, [m, n, k]: [usize; 3], x: &[f32], weight: &[f32], epilogue: Epilogue) -> Vec<f32> {
    let x = d.upload_f32([m, k], x).unwrap();
    let weight = d.upload_f32([n, k], weight).unwrap();
    let out = d.alloc(DType::F32, [m, n]).unwrap();
    let mut plan = Plan::new(d);
    kernels::matmul_f32(&mut plan, &x, &weight, &out, epilogue).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

/// A squared-ReLU MLP: `up`, squared ReLU, `down`.
#[test]
fn agrees_with_golden_mlp() {
    let golden = golden();
    let (x, up, down) = (golden.f32("relu2_mlp.x"), golden.f32("relu2_mlp.up"), golden.f32("relu2_mlp.down"));
    for d in [Device::Cpu, gpu()] {
        let act = product(&d, [4, 84, 32], &x, &up, Epilogue::ReluSquared);
        assert_close(&act, &golden.f32("relu2_mlp.act"), 1e-12);
        let out = product(&d, [4, 32, 84], &act, &down, Epilogue::Store);
        assert_close(&out, &golden.f32("relu2_mlp.out"), 1e-12);
    }
}

fn rejected(m: usize, weight: DType, weight_cols: usize, out_cols: usize) -> Error {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [m, 8]).unwrap();
    let weight = d.alloc(weight, [3, weight_cols]).unwrap();
    let out = d.alloc(DType::F32, [m, out_cols]).unwrap();
    kernels::matmul_f32(&mut Plan::new(&d), &x, &weight, &out, Epilogue::Store).unwrap_err()
}

#[test]
fn rejects_weight_of_other_columns() {
    let error = rejected(2, DType::F32, 9, 3);
    assert!(matches!(error, Error::Shape { arg: "weight", .. }), "{error}");
}

#[test]
fn rejects_out_of_other_columns() {
    let error = rejected(2, DType::F32, 8, 4);
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}

#[test]
fn rejects_integer_weight() {
    let error = rejected(2, DType::I8, 8, 3);
    assert!(matches!(error, Error::DType { arg: "weight", .. }), "{error}");
}
