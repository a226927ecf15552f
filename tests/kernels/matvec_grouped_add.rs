use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GroupedTokens, ScaledWeight};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matvec_grouped_add");
}

#[test]
fn rejects_what_does_not_fit() {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let token = |cols: usize| (d.alloc(DType::I8, [1, cols]).unwrap(), f32s([2, cols / 32]));
    let (codes, scales) = token(64);
    let refused = |rows: usize, norm: usize, stream: usize, out: usize| {
        let weight = d.upload_codes(8, [rows, 64], &vec![1; 64 * rows]).unwrap();
        let weight_scales = f32s([rows.div_ceil(4), 4]);
        let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: 64 };
        let (norm, stream, (out_codes, out_scales)) =
            (d.alloc(DType::F32, [norm]).unwrap(), f32s([1, stream]), token(out));
        let out = GroupedTokens { codes: &out_codes, scales: &out_scales };
        let x = GroupedTokens { codes: &codes, scales: &scales };
        kernels::matvec_grouped_add(&mut Plan::new(&d), x, None, weight, &norm, &stream, out)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(refused(32, 32, 32, 32), None);
    let named = |error: Option<String>, what: &str| assert!(error.as_ref().unwrap().contains(what), "{error:?}");
    named(refused(40, 40, 40, 32), "40 rows");
    named(refused(32, 33, 32, 32), "next_norm");
    named(refused(32, 32, 33, 32), "stream");
    named(refused(32, 32, 32, 64), "out_codes");
}
