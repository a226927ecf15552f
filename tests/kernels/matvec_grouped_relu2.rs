use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GroupedTokens, ScaledWeight};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matvec_grouped_relu2");
}

#[test]
fn rejects_other_blocks() {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let token = || (d.alloc(DType::I8, [1, 64]).unwrap(), f32s([2, 2]));
    let ((codes, scales), (out_codes, out_scales)) = (token(), token());
    let weight = d.upload_codes(8, [64, 64], &[1; 64 * 64]).unwrap();
    let weight_scales = f32s([16, 4]);
    let of = |block| {
        let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group: 64 };
        let x = GroupedTokens { codes: &codes, scales: &scales };
        let out = GroupedTokens { codes: &out_codes, scales: &out_scales };
        kernels::matvec_grouped_relu2(&mut Plan::new(&d), x, None, weight, block, out)
    };
    of(1).unwrap();
    of(32).unwrap();
    for block in [0, 12, 64] {
        let error = of(block).unwrap_err().to_string();
        assert!(error.contains("matvec_grouped_relu2: `block`") && error.contains(&block.to_string()), "{error}");
    }
}
