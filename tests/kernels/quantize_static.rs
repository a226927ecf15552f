use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("quantize_static");
}

fn quantize(d: &Device, shape: [usize; 2], given: &[f32], group: usize, x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let x = d.upload_f32(shape, x).unwrap();
    let given = d.upload_f32([given.len()], given).unwrap();
    let codes = d.alloc(DType::I8, shape).unwrap();
    let scales = d.alloc(DType::F32, [shape[0], shape[1].div_ceil(group)]).unwrap();
    let mut plan = Plan::new(d);
    kernels::quantize_static(&mut plan, &x, &given, &codes, &scales, group).unwrap();
    plan.record().unwrap().run().unwrap();
    (block_on(d.read_codes(&codes)).unwrap(), block_on(d.read_f32(&scales)).unwrap())
}

/// With scale 1 every code is x rounded, halves to even, and what is beyond 127 is 127.
#[test]
fn halves_round_to_even_and_large_values_saturate() {
    let x = [127.0, 0.5, 1.5, -0.5, -2.5, 3.5, 0.0, 127.6, -128.0, -1e30];
    for d in [Device::Cpu, gpu()] {
        let want = vec![127, 0, 2, 0, -2, 4, 0, 127, -127, -127];
        assert_eq!(quantize(&d, [1, 10], &[1.0], 10, &x), (want, vec![1.0]), "{}", d.name());
    }
}

/// Every row has the scales given, group by group.
#[test]
fn rows_share_the_scales_of_groups() {
    let x = [1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 10.0, -1.0, -2.0, -3.0, -4.0, 8.0, 8.0, 8.0, 8.0, -20.0];
    for d in [Device::Cpu, gpu()] {
        let (codes, scales) = quantize(&d, [2, 9], &[1.0, 0.5, 2.0], 4, &x);
        assert_eq!(codes, [1, 2, 3, 4, 2, 4, 6, 8, 5, -1, -2, -3, -4, 16, 16, 16, 16, -10], "{}", d.name());
        assert_eq!(scales, [1.0, 0.5, 2.0, 1.0, 0.5, 2.0]);
    }
}

/// Under the scales that `quantize_tokens` finds, codes are its codes.
#[test]
fn agrees_with_dynamic_under_its_scales() {
    let x: Vec<f32> = (0..80).map(|i| ((i * 7919) % 211) as f32 - 105.0 + i as f32 * 0.3).collect();
    let d = Device::Cpu;
    let (tensor, codes) = (d.upload_f32([1, 80], &x).unwrap(), d.alloc(DType::I8, [1, 80]).unwrap());
    let scales = d.alloc(DType::F32, [1, 5]).unwrap();
    let mut plan = Plan::new(&d);
    kernels::quantize_tokens(&mut plan, &tensor, &codes, &scales, 16).unwrap();
    plan.record().unwrap().run().unwrap();
    let dynamic = (block_on(d.read_codes(&codes)).unwrap(), block_on(d.read_f32(&scales)).unwrap());
    assert_eq!(quantize(&d, [1, 80], &dynamic.1, 16, &x), dynamic);
}

fn rejected(codes: DType, given: usize, rows_of_scales: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let given = d.alloc(DType::F32, [given]).unwrap();
    let codes = d.alloc(codes, [2, 8]).unwrap();
    let scales = d.alloc(DType::F32, [rows_of_scales]).unwrap();
    kernels::quantize_static(&mut Plan::new(&d), &x, &given, &codes, &scales, group).unwrap_err()
}

#[test]
fn rejects_int4_codes() {
    let error = rejected(DType::I4, 1, 2, 8);
    assert!(matches!(error, Error::DType { arg: "codes", .. }), "{error}");
}

#[test]
fn rejects_scales_of_wrong_length() {
    let error = rejected(DType::I8, 1, 3, 8);
    assert!(matches!(error, Error::Shape { arg: "scales", .. }), "{error}");
    let error = rejected(DType::I8, 2, 2, 8);
    assert!(matches!(error, Error::Shape { arg: "given", .. }), "{error}");
}

#[test]
fn rejects_group_across_words() {
    let error = rejected(DType::I8, 2, 2, 6);
    assert!(error.to_string().contains("6 is neither a multiple of 4 nor all 8"), "{error}");
}
