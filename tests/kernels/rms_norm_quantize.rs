use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, Columns, Epilogue, Scaled};
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_quantize");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("rms_norm_quantize", "warps_emulated");
}

/// On the CPU it is the two kernels one after the other, to the bit.
#[test]
fn is_the_norm_and_then_the_codes() {
    let d = Device::Cpu;
    let (rows, cols, group) = (3, 96, 32);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 211) as f32 - 105.0).collect();
    let x = d.upload_f32([rows, cols], &values).unwrap();
    let weight = d.upload_f32([cols], &values[..cols]).unwrap();
    let normed = d.alloc(DType::F32, [rows, cols]).unwrap();
    let out = || (d.alloc(DType::I8, [rows, cols]).unwrap(), d.alloc(DType::F32, [rows, cols / group]).unwrap());
    let ((codes, scales), (want_codes, want_scales)) = (out(), out());
    let mut plan = Plan::new(&d);
    let both = Scaled { codes: &codes, scales: &scales, group };
    kernels::rms_norm_quantize(&mut plan, &x, &weight, both, 1e-5).unwrap();
    kernels::rms_norm(&mut plan, &x, &weight, &normed, 1e-5).unwrap();
    kernels::quantize_tokens(&mut plan, &normed, &want_codes, &want_scales, group).unwrap();
    plan.record().unwrap().run().unwrap();
    assert_eq!(block_on(d.read(&codes)).unwrap(), block_on(d.read(&want_codes)).unwrap());
    assert_eq!(block_on(d.read(&scales)).unwrap(), block_on(d.read(&want_scales)).unwrap());
}

/// What slices give, added up with the norm, is that added up before, to the bit. What goes elsewhere, or is not added, stays a launch.
#[test]
fn adds_up_what_the_last_launch_would() {
    let [rows, cols, group] = [3, 96, 32];
    let values: Vec<f32> = (0..2 * rows * cols).map(|i| ((i * 7919) % 211) as f32 - 105.0).collect();
    for d in [Device::Cpu, gpu()] {
        let x = || d.upload_f32([rows, cols], &values[..rows * cols]).unwrap();
        let sums = d.upload_f32([2 * rows, cols], &values).unwrap();
        let weight = d.upload_f32([cols], &values[..cols]).unwrap();
        let (along, apart, other) = (x(), x(), x());
        let out = || (d.alloc(DType::I8, [rows, cols]).unwrap(), d.alloc(DType::F32, [rows, cols / group]).unwrap());
        let ((codes, scales), (want_codes, want_scales)) = (out(), out());
        let mut plan = Plan::new(&d);
        let add = |plan: &mut Plan, to: &DeviceTensor, epilogue| {
            kernels::split_k_reduce(plan, &sums, &Columns::from(to), epilogue).unwrap();
        };
        let norm = |plan: &mut Plan, x: &DeviceTensor, (codes, scales): (&DeviceTensor, &DeviceTensor)| {
            kernels::rms_norm_quantize(plan, x, &weight, Scaled { codes, scales, group }, 1e-5).unwrap();
        };
        for (to, epilogue, launches) in [(&other, Epilogue::Add, 2), (&along, Epilogue::Store, 4)] {
            add(&mut plan, to, epilogue);
            norm(&mut plan, &along, (&want_codes, &want_scales));
            assert_eq!(plan.dispatches(), launches);
        }
        add(&mut plan, &apart, Epilogue::Store);
        add(&mut plan, &apart, Epilogue::Add);
        plan.copy(&codes, &want_codes).unwrap();
        norm(&mut plan, &apart, (&want_codes, &want_scales));
        add(&mut plan, &along, Epilogue::Add);
        norm(&mut plan, &along, (&codes, &scales));
        assert_eq!(plan.dispatches(), 8);
        plan.record().unwrap().run().unwrap();
        for (got, want) in [(&along, &apart), (&codes, &want_codes), (&scales, &want_scales)] {
            assert_eq!(block_on(d.read(got)).unwrap(), block_on(d.read(want)).unwrap(), "{}", d.name());
        }
    }
}

#[test]
fn row_of_zeros_has_scale_one() {
    for d in [Device::Cpu, gpu()] {
        let x = d.upload_f32([2, 4], &[0.0, 0.0, 0.0, 0.0, 1.0, -1.0, 1.0, 1.0]).unwrap();
        let weight = d.upload_f32([4], &[1.0; 4]).unwrap();
        let (codes, scales) = (d.alloc(DType::I8, [2, 4]).unwrap(), d.alloc(DType::F32, [2]).unwrap());
        let mut plan = Plan::new(&d);
        let out = Scaled { codes: &codes, scales: &scales, group: 4 };
        kernels::rms_norm_quantize(&mut plan, &x, &weight, out, 1e-5).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_eq!(block_on(d.read_codes(&codes)).unwrap(), [0, 0, 0, 0, 127, -127, 127, 127], "{}", d.name());
        assert_eq!(block_on(d.read_f32(&scales)).unwrap()[0].to_bits(), 1.0f32.to_bits());
    }
}

fn rejected(cols: usize, weight: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let codes = d.alloc(DType::I8, [2, cols]).unwrap();
    let scales = f32s([2, cols.div_ceil(group)]);
    let out = Scaled { codes: &codes, scales: &scales, group };
    let (x, weight) = (f32s([2, cols]), f32s([1, weight]));
    kernels::rms_norm_quantize(&mut Plan::new(&d), &x, &weight, out, 1e-5).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    assert!(matches!(rejected(8, 7, 8), Error::Shape { arg: "weight", .. }));
    for (cols, group) in [(7, 7), (8196, 8196), (8192, 4)] {
        assert!(!kernels::rms_norm_quantize_fits(cols, group));
        let error = rejected(cols, cols, group).to_string();
        assert!(error.contains(&format!("{cols} columns in groups of {group}")), "{error}");
    }
    assert!(kernels::rms_norm_quantize_fits(8192, 8192) && kernels::rms_norm_quantize_fits(4096, 4));
}
