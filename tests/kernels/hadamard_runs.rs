use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_runs");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("hadamard_runs", "warps_emulated");
}

fn rejected(cols: usize, order: usize, run: usize, maxima: usize) -> Error {
    let d = Device::Cpu;
    let f32s = |cols: usize| d.alloc(DType::F32, [2, cols]).unwrap();
    let signs = kernels::hadamard_signs(&d, order).unwrap();
    let mut plan = Plan::new(&d);
    kernels::hadamard_runs(&mut plan, &f32s(cols), &signs, &f32s(cols), &f32s(maxima), run, 1.0).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    for (cols, order, run) in [(96, 12, 2), (96, 12, 12), (24_576, 12, 2048), (100, 12, 8)] {
        let error = rejected(cols, order, run, 1).to_string();
        assert!(error.contains(&format!("{order} runs of {run} columns, of {cols}")), "{error}");
    }
    let error = rejected(96, 12, 8, 11).to_string();
    assert!(error.contains("`maxima`") && error.contains("[2, 12]") && error.contains("[2, 11]"), "{error}");
}
