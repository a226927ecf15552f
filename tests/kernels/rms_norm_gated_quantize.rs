use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, GatedNorm, Scaled};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_gated_quantize");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("rms_norm_gated_quantize", "warps_emulated");
}

/// On the CPU it is the three kernels one after the other, to the bit.
#[test]
fn is_norm_transform_and_codes() {
    let d = Device::Cpu;
    let (rows, cols, group) = (3, 96, 32);
    let values = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 211) as f32 * 0.1 - 10.0).collect() };
    let y = d.upload_f32([rows, cols], &values(rows * cols)).unwrap();
    let wide = d.upload_f32([rows, 120], &values(rows * 120)).unwrap();
    let weight = d.upload_f32([cols], &values(cols)).unwrap();
    let gate = Columns::new("test", &wide, 8, cols).unwrap();
    let f32s = |cols| d.alloc(DType::F32, [rows, cols]).unwrap();
    let (normed, rotated) = (f32s(cols), f32s(cols));
    let out = || (d.alloc(DType::I8, [rows, cols]).unwrap(), f32s(cols / group));
    let ((codes, scales), (want_codes, want_scales)) = (out(), out());
    let mut plan = Plan::new(&d);
    let norm = GatedNorm { groups: 3, block: 16, eps: 1e-5 };
    let both = Scaled { codes: &codes, scales: &scales, group };
    kernels::rms_norm_gated_quantize(&mut plan, &y, &gate, &weight, both, norm).unwrap();
    kernels::rms_norm_gated(&mut plan, &y, &gate, &weight, &normed, 3, 1e-5).unwrap();
    kernels::hadamard(&mut plan, &normed, &rotated, 16).unwrap();
    kernels::quantize_tokens(&mut plan, &rotated, &want_codes, &want_scales, group).unwrap();
    plan.record().unwrap().run().unwrap();
    assert_eq!(block_on(d.read(&codes)).unwrap(), block_on(d.read(&want_codes)).unwrap());
    assert_eq!(block_on(d.read(&scales)).unwrap(), block_on(d.read(&want_scales)).unwrap());
}

fn rejected(cols: usize, [offset, stride]: [usize; 2], norm: GatedNorm) -> Error {
    let d = Device::Cpu;
    let f32s = |cols: usize| d.alloc(DType::F32, [1, cols]).unwrap();
    let codes = d.alloc(DType::I8, [1, cols]).unwrap();
    let (y, wide, weight, scales) = (f32s(cols), f32s(stride), f32s(cols), f32s(1));
    let gate = Columns::new("test", &wide, offset, cols).unwrap();
    assert!(!norm.fits(&gate, cols));
    let out = Scaled { codes: &codes, scales: &scales, group: cols };
    kernels::rms_norm_gated_quantize(&mut Plan::new(&d), &y, &gate, &weight, out, norm).unwrap_err()
}

#[test]
fn rejects_what_does_not_fit() {
    let norm = GatedNorm { groups: 2, block: 8, eps: 1e-5 };
    for (error, part) in [
        (rejected(12292, [0, 12292], norm), "12292 columns in groups of 12292"),
        (rejected(36, [0, 36], norm), "norms over 2 groups of 36 columns"),
        (rejected(48, [0, 48], GatedNorm { block: 12, ..norm }), "a transform of 12 columns of 48"),
        (rejected(48, [0, 48], GatedNorm { block: 32, ..norm }), "a transform of 32 columns of 48"),
        (rejected(48, [2, 52], norm), "a gate from column 2 of 52"),
        (rejected(48, [0, 51], norm), "a gate from column 0 of 51"),
    ] {
        assert!(matches!(error, Error::Argument { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
}
