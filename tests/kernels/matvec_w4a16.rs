use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue, ScaledWeight};
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("matvec_w4a16");
}

fn product(d: &Device, [m, n, k]: [usize; 3], group: usize, x: &[f32], weight: &[i8], scales: &[f32]) -> Vec<f32> {
    let x = d.upload_f32([m, k], x).unwrap();
    let weight = d.upload_codes(4, [n, k], weight).unwrap();
    let scales = kernels::upload_scales(d, [n, k.div_ceil(group)], scales).unwrap();
    let out = d.alloc(DType::F32, [m, n]).unwrap();
    let mut plan = Plan::new(d);
    kernels::matvec_w4a16(
        &mut plan,
        &x,
        ScaledWeight { codes: &weight, scales: &scales, group },
        &out,
        Epilogue::Store,
    )
    .unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

/// Unit vectors read the golden dequantized weight back, column by column.
#[test]
fn agrees_with_golden_dequantized_weight() {
    let golden = golden();
    let (weight, scales) = (golden.i8("quant.int4.group32.q"), golden.f32("quant.int4.group32.scale"));
    let want = golden.f32("quant.int4.group32.deq");
    for d in [Device::Cpu, gpu()] {
        for c in [0, 3, 4, 31, 32, 63] {
            let unit: Vec<f32> = (0..64).map(|i| f32::from(i == c)).collect();
            let column: Vec<f32> = want.iter().skip(c).step_by(64).copied().collect();
            assert_close(&product(&d, [1, 24, 64], 32, &unit, &weight, &scales), &column, 1e-12);
        }
    }
}

/// This crate does not write -8, but other tools' files hold it.
#[test]
fn lowest_code_multiplies() {
    for d in [Device::Cpu, gpu()] {
        let got = product(&d, [1, 2, 9], 9, &[0.5; 9], &[-8; 18], &[1.0, 0.25]);
        assert_eq!(got, [-36.0, -9.0], "{}", d.name());
    }
}

/// Changes one thing of a right call: rows, weight dtype, columns of `weight_scales`, group.
fn rejected(m: usize, weight: DType, groups: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [m, 32]).unwrap();
    let weight = d.alloc(weight, [3, 32]).unwrap();
    let scales = d.alloc(DType::F32, [1, 4 * groups]).unwrap();
    let out = d.alloc(DType::F32, [m, 3]).unwrap();
    kernels::matvec_w4a16(
        &mut Plan::new(&d),
        &x,
        ScaledWeight { codes: &weight, scales: &scales, group },
        &out,
        Epilogue::Store,
    )
    .unwrap_err()
}

#[test]
fn rejects_weight_of_other_bits() {
    let error = rejected(1, DType::I8, 2, 16);
    assert!(matches!(error, Error::DType { arg: "weight", .. }), "{error}");
}

#[test]
fn rejects_scales_of_other_groups() {
    let error = rejected(1, DType::I4, 3, 16);
    assert!(matches!(error, Error::Shape { arg: "weight_scales", .. }), "{error}");
}

#[test]
fn rejects_group_across_words() {
    let error = rejected(1, DType::I4, 8, 4);
    assert!(error.to_string().contains("4 is neither a multiple of 8"), "{error}");
}

#[test]
fn rejects_several_rows() {
    let error = rejected(2, DType::I4, 2, 16);
    assert!(error.to_string().contains("2 rows"), "{error}");
}
