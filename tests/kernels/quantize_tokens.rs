use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("quantize_tokens");
}

fn quantize(d: &Device, shape: [usize; 2], group: usize, x: &[f32]) -> (Vec<i8>, Vec<f32>) {
    let x = d.upload_f32(shape, x).unwrap();
    let codes = d.alloc(DType::I8, shape).unwrap();
    let scales = d.alloc(DType::F32, [shape[0], shape[1].div_ceil(group)]).unwrap();
    let mut plan = Plan::new(d);
    kernels::quantize_tokens(&mut plan, &x, &codes, &scales, group).unwrap();
    plan.record().unwrap().run().unwrap();
    (block_on(d.read_codes(&codes)).unwrap(), block_on(d.read_f32(&scales)).unwrap())
}

#[test]
fn agrees_with_golden() {
    let golden = golden();
    let x = golden.f32("quant.activation");
    for d in [Device::Cpu, gpu()] {
        let (codes, scales) = quantize(&d, [16, 64], 64, &x);
        assert_eq!(codes, golden.i8("quant.int8.per_token.q"), "{}", d.name());
        assert_close(&scales, &golden.f32("quant.int8.per_token.scale"), 1e-12);
    }
}

/// With the largest value 127 the scale is 1 and every code is x rounded, halves to even.
#[test]
fn halves_round_to_even() {
    let x = [127.0, 0.5, 1.5, -0.5, -2.5, 3.5, 0.0];
    for d in [Device::Cpu, gpu()] {
        assert_eq!(quantize(&d, [1, 7], 7, &x), (vec![127, 0, 2, 0, -2, 4, 0], vec![1.0]), "{}", d.name());
    }
}

#[test]
fn row_of_zeros_has_scale_one() {
    for d in [Device::Cpu, gpu()] {
        let (codes, scales) = quantize(&d, [2, 5], 5, &[0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0, 0.0]);
        assert_eq!(codes, [0, 0, 0, 0, 0, 127, 0, -127, 0, 0]);
        assert_eq!(scales[0].to_bits(), 1.0f32.to_bits());
    }
}

/// A group's scale is that of a row which is the group alone, rounded up to four bits, and its codes are by that scale.
#[test]
fn groups_have_scales_of_four_bits() {
    let x: Vec<f32> = (0..3 * 80).map(|i| ((i * 7919) % 211) as f32 - 105.0 + (i / 80) as f32 * 0.3).collect();
    for d in [Device::Cpu, gpu()] {
        let (codes, scales) = quantize(&d, [3, 80], 16, &x);
        let (_, alone) = quantize(&d, [15, 16], 16, &x);
        for (g, (short, scale)) in scales.iter().zip(alone).enumerate() {
            assert_eq!(short.to_bits() & 0xf_ffff, 0, "{short} has more than four bits");
            assert!(scale <= *short && *short < scale * 1.125, "group {g}: {short} for {scale}");
            for (x, code) in x[16 * g..][..16].iter().zip(&codes[16 * g..][..16]) {
                assert!((x - f32::from(*code) * short).abs() <= 0.5001 * short, "{x}: {code} of {short}");
            }
        }
    }
}

/// A group of zeros has codes 0 and a scale that is not the row's largest.
#[test]
fn group_of_zeros_has_a_small_scale() {
    let top = 127.0 / 1_048_576.0;
    for d in [Device::Cpu, gpu()] {
        let (codes, scales) = quantize(&d, [1, 8], 4, &[0.0, 0.0, 0.0, 0.0, 0.0, top, 0.0, -top]);
        assert_eq!(codes, [0, 0, 0, 0, 0, 127, 0, -127], "{}", d.name());
        assert!(0.0 < scales[0] && scales[0] < 1e-36, "{scales:?}");
    }
}

fn rejected(codes: DType, rows_of_scales: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let codes = d.alloc(codes, [2, 8]).unwrap();
    let scales = d.alloc(DType::F32, [rows_of_scales]).unwrap();
    kernels::quantize_tokens(&mut Plan::new(&d), &x, &codes, &scales, group).unwrap_err()
}

#[test]
fn rejects_int4_codes() {
    let error = rejected(DType::I4, 2, 8);
    assert!(matches!(error, Error::DType { arg: "codes", .. }), "{error}");
}

#[test]
fn rejects_scales_of_wrong_length() {
    let error = rejected(DType::I8, 3, 8);
    assert!(matches!(error, Error::Shape { arg: "scales", .. }), "{error}");
}

#[test]
fn rejects_group_across_words() {
    let error = rejected(DType::I8, 2, 6);
    assert!(error.to_string().contains("6 is neither a multiple of 4 nor all 8"), "{error}");
}
