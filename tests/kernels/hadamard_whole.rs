use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_whole");
}

#[test]
fn rejects_what_does_not_fit() {
    let d = Device::Cpu;
    let refused = |cols: usize, order: usize, out: usize| {
        let [x, out] = [cols, out].map(|cols| d.alloc(DType::F32, [2, cols]).unwrap());
        let signs = kernels::hadamard_signs(&d, order).unwrap();
        kernels::hadamard_whole(&mut Plan::new(&d), &x, &signs, &out, 1.0).unwrap_err()
    };
    for (cols, order) in [(3072, 20), (3080, 12), (24576, 96)] {
        let error = refused(cols, order, cols).to_string();
        assert!(error.contains(&format!("{order} runs of 256 columns, of {cols}")), "{error}");
    }
    let error = refused(3072, 12, 3076);
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}
