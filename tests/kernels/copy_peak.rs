use wgquant::Error;
use wgquant::gpu::{Device, DeviceTensor, Grid, Launch, Plan};
use wgquant::kernels;
use wgquant::shaders::KERNELS;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("copy_peak");
}

#[test]
fn rejects_words_that_are_no_vectors() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::U32, [6]).unwrap(), d.alloc(DType::U32, [6]).unwrap());
    let error = kernels::copy_peak(&mut Plan::new(&d), &x, &out).unwrap_err().to_string();
    assert!(error.contains("6 words"), "{error}");
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::U32, [8]).unwrap(), d.alloc(DType::U32, [4]).unwrap());
    let error = kernels::copy_peak(&mut Plan::new(&d), &x, &out).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}

/// No plan launches a shader that would not see a tensor's end, whatever its host function let pass.
#[test]
fn a_tensor_that_ends_within_an_element_is_refused() {
    let d = crate::common::open(None);
    let (x, out) = (d.alloc(DType::U32, [6]).unwrap(), d.alloc(DType::U32, [8]).unwrap());
    let kernel = KERNELS.iter().find(|k| k.name == "copy_peak").unwrap();
    let error = |bindings: &[&DeviceTensor]| {
        let params = &[1, 0, 0, 0];
        let launch = Launch { kernel, format: None, params, bindings, grid: Grid::linear(1), cpu: |_| {} };
        Plan::new(&d).launch(launch).err().map(|e| e.to_string())
    };
    let said = error(&[&x, &out]).unwrap();
    assert!(said.contains("copy_peak.base: `x`: 24 bytes, not whole elements of 16"), "{said}");
    let whole = d.alloc(DType::U32, [8]).unwrap();
    assert_eq!(error(&[&whole, &out]), None);
}
