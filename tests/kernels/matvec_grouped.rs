use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GROUPED_TOKENS, GroupedTokens, Groups, NormFactors, ScaledWeight};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matvec_grouped");
}

/// Launches a product of `k` columns with 40 rows in groups of `group`, norms of `norm` columns.
fn launched(bits: usize, k: usize, group: usize, norm: usize) -> Result<(), Error> {
    launched_of(1, bits, k, group, norm)
}

fn launched_of(tokens: usize, bits: usize, k: usize, group: usize, norm: usize) -> Result<(), Error> {
    let d = Device::Cpu;
    let f32s = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let (codes, scales) = (d.alloc(DType::I8, [tokens, k]).unwrap(), f32s([2, tokens * k / 32]));
    let weight = d.upload_codes(bits, [40, k], &vec![1; 40 * k]).unwrap();
    let weight_scales = f32s([10, 4 * k.div_ceil(group)]);
    let x = GroupedTokens { codes: &codes, scales: &scales };
    let norm = Some(NormFactors { group: norm, eps: 1e-5 }).filter(|n| n.group > 0);
    let weight = ScaledWeight { codes: &weight, scales: &weight_scales, group };
    kernels::matvec_grouped(&mut Plan::new(&d), x, norm, weight, &f32s([tokens, 40]))
}

#[test]
fn rejects_what_does_not_fit() {
    let refused = |bits, k, group, norm| launched(bits, k, group, norm).unwrap_err().to_string();
    launched(4, 64, 32, 64).unwrap();
    launched(8, 64, 16, 32).unwrap();
    launched_of(GROUPED_TOKENS, 4, 64, 32, 64).unwrap();
    let error = launched_of(GROUPED_TOKENS + 1, 4, 64, 32, 64).unwrap_err().to_string();
    assert!(error.contains("9 tokens, of at least 1 and at most 8"), "{error}");
    assert!(refused(4, 64, 16, 0).contains("matvec_grouped: `codes`"));
    assert!(refused(8, 72, 72, 0).contains("72 columns in groups of 32"));
    for norm in [48, 16, 128] {
        assert!(refused(8, 64, 64, norm).contains(&format!("norms of {norm} columns of 64")));
    }
    assert!(refused(8, 32 * 65, 32 * 65, 32).contains("at most 64 norms"));
    let pays = |cols, weight, bits, token| kernels::grouped_pays(&Device::Cpu, cols, Groups { bits, weight, token });
    assert!(pays(4096, 128, 4, 32) && pays(21504, 21504, 8, 32));
    assert!(!pays(4096, 128, 4, 64) && !pays(4096, 16, 4, 32) && !pays(4112, 4112, 8, 32));
}
