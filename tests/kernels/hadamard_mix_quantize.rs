use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Scaled};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_mix_quantize");
}

/// On the CPU it is the transform and then the codes, but for rounding: Sylvester's factors may be in the dense matrix, so sums go
/// in another order. Scales agree to 1e-6, and of the words of codes all but one in a thousand.
#[test]
fn is_the_transform_and_then_the_codes() {
    let d = Device::Cpu;
    for order in [1, 12, 48, 84] {
        let cols = 256 * order;
        let values: Vec<f32> = (0..2 * cols).map(|i| ((i * 7919) % 211) as f32 * 0.1 - 10.0).collect();
        let x = d.upload_f32([2, cols], &values).unwrap();
        let rotated = d.alloc(DType::F32, [2, cols]).unwrap();
        let out = || (d.alloc(DType::I8, [2, cols]).unwrap(), d.alloc(DType::F32, [2, 1]).unwrap());
        let ((codes, scales), (want_codes, want_scales)) = (out(), out());
        let signs = kernels::hadamard_signs(&d, order).unwrap();
        let mut plan = Plan::new(&d);
        let both = Scaled { codes: &codes, scales: &scales, group: cols };
        kernels::hadamard_mix_quantize(&mut plan, &x, &signs, both, 1.0 / (cols as f32).sqrt()).unwrap();
        kernels::hadamard(&mut plan, &x, &rotated, cols).unwrap();
        kernels::quantize_tokens(&mut plan, &rotated, &want_codes, &want_scales, cols).unwrap();
        plan.record().unwrap().run().unwrap();
        let [scales, want] = [&scales, &want_scales].map(|s| block_on(d.read_f32(s)).unwrap());
        assert!(scales.iter().zip(&want).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{order}: {scales:?} {want:?}");
        let [codes, want] = [&codes, &want_codes].map(|c| block_on(d.read(c)).unwrap());
        let differ = codes.iter().zip(&want).filter(|(a, b)| a != b).count();
        assert!(differ <= codes.len() / 1000, "{order}: {differ} words of {} differ", codes.len());
    }
}

fn rejected(cols: usize, order: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let codes = d.alloc(DType::I8, [2, cols]).unwrap();
    let scales = f32s([2, cols.div_ceil(group)]);
    let signs = kernels::hadamard_signs(&d, order).unwrap();
    let out = Scaled { codes: &codes, scales: &scales, group };
    kernels::hadamard_mix_quantize(&mut Plan::new(&d), &f32s([2, cols]), &signs, out, 1.0).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    for (cols, order, group) in [(3072, 20, 3072), (3080, 12, 3080), (3072, 12, 512)] {
        let error = rejected(cols, order, group).to_string();
        assert!(error.contains(&format!("{order} runs of 256 columns, of {cols}, in groups of {group}")), "{error}");
    }
    let error = rejected(24576, 96, 24576).to_string();
    assert!(error.contains("96 runs of 256 columns, of 24576"), "{error}");
}
