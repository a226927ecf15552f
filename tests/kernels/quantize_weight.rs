use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("quantize_weight");
}

fn quantize(d: &Device, dtype: DType, shape: [usize; 2], group: usize, w: &[f32], scales: &[f32]) -> Vec<i8> {
    let w = d.upload_f32(shape, w).unwrap();
    let scales = d.upload_f32([shape[0], shape[1].div_ceil(group)], scales).unwrap();
    let codes = d.alloc(dtype, shape).unwrap();
    let mut plan = Plan::new(d);
    kernels::quantize_weight(&mut plan, &w, &scales, &codes, group).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_codes(&codes)).unwrap()
}

#[test]
fn agrees_with_golden() {
    let golden = golden();
    let w = golden.f32("quant.weight");
    for (bits, dtype) in [("int8", DType::I8), ("int4", DType::I4)] {
        for (form, group) in [("per_row", 64), ("group32", 32)] {
            let scales = golden.f32(&format!("quant.{bits}.{form}.scale"));
            let want = golden.i8(&format!("quant.{bits}.{form}.q"));
            for d in [Device::Cpu, gpu()] {
                assert_eq!(quantize(&d, dtype, [24, 64], group, &w, &scales), want, "{bits} {form} on {}", d.name());
            }
        }
    }
}

#[test]
fn rounds_as_golden() {
    let golden = golden();
    let (x, want) = (golden.f32("quant.rounding.x"), golden.i8("quant.rounding.q_scale1"));
    for d in [Device::Cpu, gpu()] {
        assert_eq!(quantize(&d, DType::I8, [1, x.len()], x.len(), &x, &[1.0]), want, "{}", d.name());
    }
}

#[test]
fn clamps_without_the_lowest_code_and_takes_scale_zero() {
    let w = [-100.0, 100.0, -3.0, 5.0];
    for d in [Device::Cpu, gpu()] {
        assert_eq!(quantize(&d, DType::I4, [1, 4], 2, &w, &[1.0, 0.0]), [-7, 7, 0, 0], "{}", d.name());
        assert_eq!(quantize(&d, DType::I8, [1, 4], 2, &w, &[0.1, 0.0]), [-127, 127, 0, 0], "{}", d.name());
    }
}

fn rejected(codes: DType, groups: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let w = d.alloc(DType::F32, [2, 8]).unwrap();
    let scales = d.alloc(DType::F32, [2, groups]).unwrap();
    let codes = d.alloc(codes, [2, 8]).unwrap();
    kernels::quantize_weight(&mut Plan::new(&d), &w, &scales, &codes, group).unwrap_err()
}

#[test]
fn rejects_scales_of_wrong_groups() {
    let error = rejected(DType::I8, 3, 4);
    assert!(matches!(error, Error::Shape { arg: "scales", .. }), "{error}");
}

#[test]
fn rejects_codes_that_are_words() {
    let error = rejected(DType::U32, 2, 4);
    assert!(matches!(error, Error::DType { arg: "codes", .. }), "{error}");
}

#[test]
fn rejects_group_of_zero() {
    let error = rejected(DType::I8, 2, 0);
    assert!(error.to_string().contains("group"), "{error}");
}
