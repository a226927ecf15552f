use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{GptqRefine, ScaleForm, gptq_refine};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("gptq_refine");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |moments: [usize; 2], scales: usize, width: usize, form: ScaleForm| {
        let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
        let (gradient, moments, units) = (f32s([12, 5]), f32s(moments), f32s([1, 5]));
        let (scales, changes) = (f32s([scales, 5]), f32s([12, 5]));
        let codes = d.alloc(DType::I8, [12, 5]).unwrap();
        let t = GptqRefine {
            gradient: &gradient,
            moments: &moments,
            units: &units,
            scales: &scales,
            codes: &codes,
            changes: &changes,
        };
        match gptq_refine(&mut Plan::new(&d), &t, 4, width, 4, form, 7.0) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string().split(' ').nth(1).unwrap_or_default().trim_end_matches(':').to_owned(),
        }
    };
    let plain = ScaleForm::Plain(DType::F16);
    assert_eq!(refused([12, 12], 3, 8, plain), "none");
    assert_eq!(refused([12, 11], 3, 8, plain), "moments");
    assert_eq!(refused([12, 12], 2, 8, plain), "scales");
    assert_eq!(refused([12, 12], 3, 6, plain), "group");
    assert_eq!(refused([12, 12], 3, 6, ScaleForm::Fixed), "none");
    assert_eq!(refused([12, 12], 3, 9, plain), "width");
}
