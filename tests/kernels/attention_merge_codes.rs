use pollster::block_on;
use wgquant::Result;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, AttentionDims, AttentionParts, KvCache, KvFormat, Scaled};
use wgquant::tensor::DType;

use super::common::{check_all, gpu};

#[test]
fn matches_reference() {
    check_all("attention_merge_codes");
}

/// Of one key: its value's codes, as `quantize_tokens` makes them.
fn launched(d: &Device, head_dim: usize, group: usize, width: usize) -> Result<[Vec<u32>; 4]> {
    let dims = AttentionDims { heads: 1, kv_heads: 1, head_dim };
    let cache = KvCache::new(d, dims, 64, KvFormat::F32)?;
    let parts = AttentionParts::new(d, dims, 1, 64)?;
    let value: Vec<f32> = (0..head_dim).map(|i| (i as f32 * 0.37).sin() * (1 + i) as f32).collect();
    let (row, cursor) = (d.upload_f32([1, head_dim], &value)?, d.alloc(DType::U32, [1])?);
    let made = || Ok::<_, wgquant::Error>((d.alloc(DType::I8, [1, width])?, d.alloc(DType::F32, [1, width / 32])?));
    let ((codes, scales), (want, want_scales)) = (made()?, made()?);
    let mut plan = Plan::new(d);
    kernels::kv_append(&mut plan, &row, &row, &cursor, &cache, dims)?;
    kernels::attention_split(&mut plan, &row, &cache, &cursor, &parts, dims)?;
    let out = Scaled { codes: &codes, scales: &scales, group };
    kernels::attention_merge_codes(&mut plan, &parts, &cache, &cursor, out, dims)?;
    kernels::quantize_tokens(&mut plan, &row, &want, &want_scales, 32)?;
    plan.record()?.run()?;
    let words = |t| block_on(d.begin_read(t)?.words());
    Ok([words(&codes)?, words(&want)?, words(&scales)?, words(&want_scales)?])
}

#[test]
fn of_one_key_they_are_its_values() {
    for d in [Device::Cpu, gpu()] {
        let [codes, want, scales, want_scales] = launched(&d, 64, 32, 64).unwrap();
        assert_eq!((codes, scales), (want, want_scales), "{}", d.name());
    }
}

#[test]
fn rejects_what_does_not_fit() {
    let refused = |head_dim, group, width| launched(&Device::Cpu, head_dim, group, width).unwrap_err().to_string();
    assert!(refused(48, 32, 48).contains("heads of 48 columns"));
    assert!(refused(64, 64, 64).contains("groups of 64"));
    assert!(refused(64, 32, 96).contains("attention_merge_codes: `codes`"));
}
