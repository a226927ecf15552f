use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, AttentionDims, AttentionParts, KvCache, KvFormat};
use wgquant::tensor::DType;

use super::common::{check_all, gpu};

#[test]
fn matches_reference() {
    check_all("attention_merge");
}

/// One key has all the weight: the result is its value.
#[test]
fn of_one_key_it_is_its_value() {
    let dims = AttentionDims { heads: 1, kv_heads: 1, head_dim: 4 };
    for d in [Device::Cpu, gpu()] {
        let cache = KvCache::new(&d, dims, 64, KvFormat::F32).unwrap();
        let parts = AttentionParts::new(&d, dims, 1, 64).unwrap();
        let row = |x: &[f32]| d.upload_f32([1, 4], x).unwrap();
        let (cursor, out) = (d.alloc(DType::U32, [1]).unwrap(), d.alloc(DType::F32, [1, 4]).unwrap());
        let mut plan = Plan::new(&d);
        kernels::kv_append(&mut plan, &row(&[9.0; 4]), &row(&[0.1, -2.0, 3e7, 4e-9]), &cursor, &cache, dims).unwrap();
        kernels::attention_split(&mut plan, &row(&[2.0, 1.0, 0.0, -7.0]), &cache, &cursor, &parts, dims).unwrap();
        kernels::attention_merge(&mut plan, &parts, &cache, &cursor, &out, dims).unwrap();
        plan.record().unwrap().run().unwrap();
        let got = block_on(d.read_f32(&out)).unwrap();
        assert!(got.iter().zip([0.1f32, -2.0, 3e7, 4e-9]).all(|(a, b)| (a / b - 1.0).abs() < 1e-6), "{got:?}");
    }
}

#[test]
fn rejects_what_does_not_fit() {
    let d = Device::Cpu;
    let dims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    let run = |dims: AttentionDims, out: [usize; 2], cursors: usize| {
        let cache = KvCache::new(&d, dims, 32, KvFormat::F32).unwrap();
        let parts = AttentionParts::new(&d, dims, 1, 32).unwrap();
        let (cursor, out) = (d.alloc(DType::U32, [cursors]).unwrap(), d.alloc(DType::F32, out).unwrap());
        kernels::attention_merge(&mut Plan::new(&d), &parts, &cache, &cursor, &out, dims)
    };
    assert!(run(dims, [1, 64], 1).is_ok());
    assert!(matches!(run(dims, [1, 60], 1).unwrap_err(), Error::Shape { arg: "out", .. }));
    assert!(matches!(run(dims, [1, 64], 2).unwrap_err(), Error::Shape { arg: "cursor", .. }));
    assert!(run(dims, [2, 64], 1).unwrap_err().to_string().contains("view"), "room for one token");
    assert!(run(AttentionDims { head_dim: 15, ..dims }, [1, 60], 1).unwrap_err().to_string().contains("16 bytes"));
}
