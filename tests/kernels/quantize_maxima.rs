use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, HadamardBuffers, Scaled};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("quantize_maxima");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("quantize_maxima", "warps_emulated");
}

/// Few rows take the two dispatches of this kernel and hadamard_runs, many others: the same to the bit on the CPU.
#[test]
fn few_rows_get_the_codes_of_many() {
    let d = Device::Cpu;
    let (cols, rows) = (1344, 9);
    let values: Vec<f32> = (0..rows * cols).map(|i| ((i * 7919) % 211) as f32 * 0.1 - 10.0).collect();
    let codes_of = |rows: usize| {
        let f32s = |cols| d.alloc(DType::F32, [rows, cols]).unwrap();
        let x = d.upload_f32([rows, cols], &values[..rows * cols]).unwrap();
        let (codes, scales) = (d.alloc(DType::I8, [rows, cols]).unwrap(), f32s(1));
        let buffers = HadamardBuffers::new(&d, rows, cols, cols).unwrap();
        let mut plan = Plan::new(&d);
        let out = Scaled { codes: &codes, scales: &scales, group: cols };
        kernels::hadamard_codes_with(&mut plan, &x, &f32s(cols), out, &buffers).unwrap();
        let labels: Vec<String> = plan.labels().collect();
        plan.record().unwrap().run().unwrap();
        (labels, block_on(d.read(&codes)).unwrap(), block_on(d.read(&scales)).unwrap())
    };
    let (few_labels, few, few_scales) = codes_of(8);
    let (many_labels, many, many_scales) = codes_of(9);
    assert!(
        few_labels[0].starts_with("hadamard_runs") && few_labels[1].starts_with("quantize_maxima"),
        "{few_labels:?}"
    );
    assert!(many_labels[0].starts_with("hadamard_mix"), "{many_labels:?}");
    assert_eq!(few, many[..few.len()]);
    assert_eq!(few_scales, many_scales[..8]);
}

fn rejected(cols: usize, maxima: usize, group: usize) -> Error {
    let d = Device::Cpu;
    let f32s = |cols: usize| d.alloc(DType::F32, [2, cols]).unwrap();
    let (codes, scales) = (d.alloc(DType::I8, [2, cols]).unwrap(), f32s(cols.div_ceil(group)));
    let out = Scaled { codes: &codes, scales: &scales, group };
    kernels::quantize_maxima(&mut Plan::new(&d), &f32s(cols), &f32s(maxima), out).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    for (cols, maxima, group) in [(30, 3, 30), (32, 0, 32), (32, 4, 8)] {
        let error = rejected(cols, maxima, group).to_string();
        assert!(error.contains(&format!("{cols} columns with {maxima} maxima in groups of {group}")), "{error}");
    }
}
