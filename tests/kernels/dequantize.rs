use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("dequantize");
}

fn dequantize(d: &Device, bits: usize, shape: [usize; 2], group: usize, codes: &[i8], scales: &[f32]) -> Vec<f32> {
    let codes = d.upload_codes(bits, shape, codes).unwrap();
    let scales = d.upload_f32([shape[0], shape[1].div_ceil(group)], scales).unwrap();
    let out = d.alloc(DType::F32, shape).unwrap();
    let mut plan = Plan::new(d);
    kernels::dequantize(&mut plan, &codes, &scales, &out, group).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

#[test]
fn agrees_with_golden() {
    let golden = golden();
    for bits in [8, 4] {
        for (form, group) in [("per_row", 64), ("group32", 32)] {
            let of = |what: &str| format!("quant.int{bits}.{form}.{what}");
            let (codes, scales) = (golden.i8(&of("q")), golden.f32(&of("scale")));
            for d in [Device::Cpu, gpu()] {
                let got = dequantize(&d, bits, [24, 64], group, &codes, &scales);
                assert_close(&got, &golden.f32(&of("deq")), 1e-12);
            }
        }
    }
}

/// This crate writes neither -128 nor -8, but other tools' files hold them.
#[test]
fn reads_the_lowest_codes() {
    for d in [Device::Cpu, gpu()] {
        assert_eq!(dequantize(&d, 8, [1, 3], 3, &[-128, 127, -1], &[0.5]), [-64.0, 63.5, -0.5], "{}", d.name());
        assert_eq!(dequantize(&d, 4, [1, 5], 5, &[-8, 7, -1, 0, -8], &[0.5]), [-4.0, 3.5, -0.5, 0.0, -4.0]);
    }
}

fn rejected(codes: DType, groups: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let codes = d.alloc(codes, [2, 8]).unwrap();
    let scales = d.alloc(DType::F32, [2, groups]).unwrap();
    let out = d.alloc(DType::F32, [2, 8]).unwrap();
    kernels::dequantize(&mut Plan::new(&d), &codes, &scales, &out, group).unwrap_err()
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
    let error = rejected(DType::I4, 2, 0);
    assert!(error.to_string().contains("group"), "{error}");
}
