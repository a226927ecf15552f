use wgquant::Result;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue, GatedNorm, ScaledWeight};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_gated_matvec");
}

/// A token of `rows` x 256 gated by columns from `offset` of a tensor of 600, in `groups` norms and runs of `block`, times 3 rows of an
/// int4 weight in groups of `group`.
fn run([rows, offset, width, norm]: [usize; 4], [groups, block, group]: [usize; 3]) -> Result<()> {
    let d = Device::Cpu;
    let alloc = |shape: [usize; 2]| d.alloc(DType::F32, shape);
    let (y, gate, norm_weight) = (alloc([rows, 256])?, alloc([1, 600])?, alloc([1, norm])?);
    let (codes, scales) = (d.alloc(DType::I4, [3, 256])?, alloc([1, 4 * 256usize.div_ceil(group)])?);
    let (weight, out) = (ScaledWeight { codes: &codes, scales: &scales, group }, alloc([rows, 3])?);
    let gate = Columns::new("test", &gate, offset, width)?;
    let norm = GatedNorm { groups, block, eps: 1e-5 };
    kernels::rms_norm_gated_matvec(
        &mut Plan::new(&d),
        &y,
        &gate,
        &norm_weight,
        (norm, 256),
        weight,
        &out,
        Epilogue::Store,
    )
}

#[test]
fn rejects_what_does_not_fit() {
    let refused = |token, norm| run(token, norm).unwrap_err().to_string();
    run([1, 8, 256, 256], [2, 128, 64]).unwrap();
    assert!(refused([2, 8, 256, 256], [2, 128, 64]).contains("rms_norm_gated_matvec"));
    assert!(refused([1, 8, 252, 256], [2, 128, 64]).contains("`gate`: 252 columns for 256"));
    assert!(refused([1, 8, 256, 255], [2, 128, 64]).contains("`norm`"));
    // Norms of 64 columns, runs longer than a norm, a gate that is not in whole quads.
    for (token, norm) in
        [([1, 8, 256, 256], [4, 32, 64]), ([1, 8, 256, 256], [2, 256, 64]), ([1, 6, 256, 256], [2, 128, 64])]
    {
        let error = refused(token, norm);
        assert!(error.contains("rms_norm_gated_matvec: `norm`: norms over"), "{error}");
    }
    assert!(refused([1, 8, 256, 256], [2, 128, 16]).contains("groups of 16"));
}
