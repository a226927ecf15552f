use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, AttentionDims, AttentionParts, KvCache, KvFormat};
use wgquant::tensor::DType;

use super::common::{assert_close, check_all, gpu};

#[test]
fn matches_reference() {
    check_all("attention_split");
}

fn values(n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0).collect()
}

/// Attention of a token of each sequence, which has the cursor of its place, at once and in parts.
fn both(d: &Device, dims: AttentionDims, format: KvFormat, cursors: &[u32], max: usize) -> ([Vec<f32>; 2], usize) {
    let (n, width) = (cursors.len(), dims.heads * dims.head_dim);
    let kv_width = dims.kv_heads * dims.head_dim;
    let cache = KvCache::of_sequences(d, dims, n, max, format).unwrap();
    let kv = d.upload_f32([n * max, kv_width], &values(n * max * kv_width)).unwrap();
    let at = |cursors: &[u32]| d.upload_words(DType::U32, [n], cursors).unwrap();
    let parts = AttentionParts::new(d, dims, n, max).unwrap();
    let q = d.upload_f32([n, width], &values(n * width)).unwrap();
    let [once, split] = [(); 2].map(|()| d.alloc(DType::F32, [n, width]).unwrap());
    let mut plan = Plan::new(d);
    kernels::kv_append(&mut plan, &kv, &kv, &at(&vec![0; n]), &cache, dims).unwrap();
    kernels::attention(&mut plan, &q, &cache, &at(cursors), &once, dims).unwrap();
    let before = plan.dispatches();
    kernels::attention_in_parts(&mut plan, &q, &cache, &at(cursors), &split, dims, &parts).unwrap();
    let launches = plan.dispatches() - before;
    plan.record().unwrap().run().unwrap();
    ([once, split].map(|out| block_on(d.read_f32(&out)).unwrap()), launches)
}

/// Parts put together are attention, whatever the number of keys.
#[test]
fn parts_make_a_whole() {
    let dims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 32 };
    for d in [Device::Cpu, gpu()] {
        for format in [KvFormat::F32, KvFormat::F16, KvFormat::Int8, KvFormat::Int4] {
            for cursors in [&[0][..], &[16], &[255], &[0, 31, 200], &[599, 0, 17, 511]] {
                let ([once, split], launches) = both(&d, dims, format, cursors, 600);
                assert_eq!(launches, 2, "{format:?}");
                assert_close(&split, &once, 1e-10);
            }
        }
    }
}

/// Heads that are not whole 16 bytes take the other kernel.
#[test]
fn odd_heads_go_another_way() {
    let dims = AttentionDims { heads: 2, kv_heads: 1, head_dim: 36 };
    let d = gpu();
    for (format, want) in [(KvFormat::F32, 2), (KvFormat::F16, 1), (KvFormat::Int8, 1), (KvFormat::Int4, 1)] {
        let ([once, split], launches) = both(&d, dims, format, &[40], 64);
        assert_eq!(launches, want, "{format:?}");
        assert_close(&split, &once, 1e-10);
    }
}

/// Room for parts does not grow with the context beyond a point.
#[test]
fn room_is_bounded() {
    let dims = AttentionDims { heads: 32, kv_heads: 8, head_dim: 128 };
    let bytes = |sequences, max| AttentionParts::new(&Device::Cpu, dims, sequences, max).unwrap().bytes();
    assert_eq!(bytes(1, 16), 32 * 130 * 4);
    assert_eq!(bytes(1, 131_072), 32 * 32 * 130 * 4);
    assert_eq!(bytes(64, 131_072), 64 * 32 * 4 * 130 * 4);
}

#[test]
fn rejects_what_does_not_fit() {
    let d = Device::Cpu;
    let dims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };
    let cursor = d.alloc(DType::U32, [1]).unwrap();
    let parts = AttentionParts::new(&d, dims, 1, 32).unwrap();
    let run = |q: [usize; 2], dims: AttentionDims| {
        let cache = KvCache::new(&d, dims, 32, KvFormat::F32).unwrap();
        let q = d.alloc(DType::F32, q).unwrap();
        kernels::attention_split(&mut Plan::new(&d), &q, &cache, &cursor, &parts, dims)
    };
    assert!(run([1, 64], dims).is_ok());
    assert!(matches!(run([1, 60], dims).unwrap_err(), Error::Shape { arg: "q", .. }));
    assert!(run([2, 64], dims).unwrap_err().to_string().contains("view"), "room for one token");
    let odd = AttentionDims { head_dim: 15, ..dims };
    assert!(run([1, 60], odd).unwrap_err().to_string().contains("whole 16 bytes"));
    assert!(AttentionParts::new(&d, AttentionDims { heads: 3, ..dims }, 1, 32).is_err());
}
