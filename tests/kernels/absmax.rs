use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("absmax");
}

/// compressed-tensors' scales are the absolute maxima over 127 or 7.
#[test]
fn agrees_with_golden_scales() {
    let golden = golden();
    let values = golden.f32("quant.weight");
    for (name, group, most) in [("int8.group32", 32, 127.0), ("int8.per_row", 64, 127.0), ("int4.group32", 32, 7.0)] {
        let want: Vec<f32> = golden.f32(&format!("quant.{name}.scale")).iter().map(|s| s * most).collect();
        for d in [Device::Cpu, gpu()] {
            let w = d.upload_f32([24, 64], &values).unwrap();
            let out = d.alloc(DType::F32, [24, 64 / group]).unwrap();
            let mut plan = Plan::new(&d);
            kernels::absmax(&mut plan, &w, &out, group).unwrap();
            plan.record().unwrap().run().unwrap();
            assert_close(&block_on(d.read_f32(&out)).unwrap(), &want, 1e-12);
        }
    }
}

fn rejected(groups: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let out = d.alloc(DType::F32, [2, groups]).unwrap();
    kernels::absmax(&mut Plan::new(&d), &x, &out, group).unwrap_err()
}

#[test]
fn rejects_out_of_wrong_groups() {
    let error = rejected(2, 3);
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}

#[test]
fn rejects_group_of_zero() {
    let error = rejected(2, 0);
    assert!(matches!(error, Error::Argument { .. }) && error.to_string().contains("group"), "{error}");
}
