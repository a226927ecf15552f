use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, HadamardBuffers, Scaled};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_quantize");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("hadamard_quantize", "warps_emulated");
    super::common::check_variant("hadamard_quantize", "long_warps_emulated");
    super::common::check_variant("hadamard_quantize", "warps_of_halves_emulated");
    super::common::check_variant("hadamard_quantize", "whole_halves_emulated");
}

/// A block of an odd factor (or two) too: on the CPU it is the transform and then the codes, to the bit.
#[test]
fn is_the_transform_and_then_the_codes() {
    let d = Device::Cpu;
    for (cols, block) in [(96, 8), (96, 96), (1344, 1344), (15680, 15680)] {
        let values: Vec<f32> = (0..2 * cols).map(|i| ((i * 7919) % 211) as f32 * 0.1 - 10.0).collect();
        let x = d.upload_f32([2, cols], &values).unwrap();
        let f32s = |cols| d.alloc(DType::F32, [2, cols]).unwrap();
        let (rotated, between) = (f32s(cols), f32s(cols));
        let out = || (d.alloc(DType::I8, [2, cols]).unwrap(), f32s(1));
        let ((codes, scales), (want_codes, want_scales)) = (out(), out());
        let buffers = HadamardBuffers::new(&d, 2, cols, block).unwrap();
        assert!(buffers.fits_codes(&d, cols, cols), "{block}");
        let mut plan = Plan::new(&d);
        let both = Scaled { codes: &codes, scales: &scales, group: cols };
        kernels::hadamard_codes_with(&mut plan, &x, &between, both, &buffers).unwrap();
        let fused = plan.dispatches();
        kernels::hadamard(&mut plan, &x, &rotated, block).unwrap();
        kernels::quantize_tokens(&mut plan, &rotated, &want_codes, &want_scales, cols).unwrap();
        assert_eq!(plan.dispatches(), 2 * fused + 1);
        plan.record().unwrap().run().unwrap();
        assert_eq!(block_on(d.read(&codes)).unwrap(), block_on(d.read(&want_codes)).unwrap(), "{block}");
        assert_eq!(block_on(d.read(&scales)).unwrap(), block_on(d.read(&want_scales)).unwrap(), "{block}");
    }
}

fn rejected(cols: usize, run: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let codes = d.alloc(DType::I8, [2, cols]).unwrap();
    let scales = f32s([2, cols.div_ceil(group)]);
    let out = Scaled { codes: &codes, scales: &scales, group };
    kernels::hadamard_quantize(&mut Plan::new(&d), &f32s([2, cols]), out, run, 1.0).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    for (cols, run, group) in [(96, 12, 96), (96, 64, 96), (96, 1, 96), (8192, 8192, 8192), (96, 8, 32)] {
        let error = rejected(cols, run, group).to_string();
        assert!(error.contains(&format!("runs of {run} of {cols} columns in groups of {group}")), "{error}");
    }
    assert!(rejected(28672, 64, 28672).to_string().contains("28672 columns"));
    let d = Device::Cpu;
    let buffers = HadamardBuffers::new(&d, 1, 96, 8).unwrap();
    assert!(buffers.fits_codes(&d, 96, 96) && !buffers.fits_codes(&d, 96, 32));
}
