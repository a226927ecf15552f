use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{GptqBlock, gptq_block};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("gptq_block");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |adjusted: [usize; 2], steps: [usize; 2], errors: usize, width: usize| {
        let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
        let (wanted, adjusted, factor) = (f32s([6, 5]), f32s(adjusted), f32s([6, 6]));
        let (scales, errors) = (f32s([4, 5]), f32s([errors, 5]));
        let steps = d.alloc(DType::U32, steps).unwrap();
        let codes = d.alloc(DType::I8, [6, 5]).unwrap();
        let t = GptqBlock {
            wanted: &wanted,
            adjusted: &adjusted,
            factor: &factor,
            steps: &steps,
            scales: &scales,
            codes: &codes,
            errors: &errors,
        };
        match gptq_block(&mut Plan::new(&d), &t, 2, width, 7.0) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string().split(':').take(2).collect(),
        }
    };
    assert_eq!(refused([6, 5], [6, 2], 4, 4), "none");
    assert_eq!(refused([5, 5], [6, 2], 4, 4), "adjusted");
    assert_eq!(refused([6, 5], [5, 2], 4, 4), "steps");
    assert_eq!(refused([6, 5], [6, 2], 3, 4), "errors");
    assert!(refused([6, 5], [6, 2], 5, 5).contains("width"));
}
