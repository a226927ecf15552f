use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, AttentionDims, KvCache, KvFormat};
use wgquant::tensor::DType;

use super::common::{assert_close, check_all, golden, gpu};

#[test]
fn matches_reference() {
    check_all("attention");
}

const GOLDEN: AttentionDims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 16 };

/// `x` `[rows, 32]` times the transpose of `w` `[out, 32]`.
fn project(x: &[f32], w: &[f32]) -> Vec<f32> {
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>() as f32;
    x.chunks(32).flat_map(|x| w.chunks(32).map(move |w| dot(x, w))).collect()
}

/// Attention of the golden layer's tokens, `step` at a time, through the cache.
fn golden_context(d: &Device, step: usize) -> Vec<f32> {
    let g = golden();
    let x = g.f32("gqa.x");
    let [q, k, v] = ["gqa.wq", "gqa.wk", "gqa.wv"].map(|w| project(&x, &g.f32(w)));
    let cache = KvCache::new(d, GOLDEN, 12, KvFormat::F32).unwrap();
    let mut all = Vec::new();
    for first in (0..9).step_by(step) {
        let n = step.min(9 - first);
        let rows =
            |values: &[f32], width: usize| d.upload_f32([n, width], &values[first * width..][..n * width]).unwrap();
        let cursor = d.upload_words(DType::U32, [1], &[first as u32]).unwrap();
        let out = d.alloc(DType::F32, [n, 64]).unwrap();
        let mut plan = Plan::new(d);
        kernels::kv_append(&mut plan, &rows(&k, 32), &rows(&v, 32), &cursor, &cache, GOLDEN).unwrap();
        kernels::attention(&mut plan, &rows(&q, 64), &cache, &cursor, &out, GOLDEN).unwrap();
        plan.record().unwrap().run().unwrap();
        all.extend(block_on(d.read_f32(&out)).unwrap());
    }
    all
}

#[test]
fn matches_golden_values() {
    let want = golden().f32("gqa.context");
    for step in [9, 4, 1] {
        assert_close(&golden_context(&Device::Cpu, step), &want, 1e-12);
        assert_close(&golden_context(&gpu(), step), &want, 1e-11);
    }
}

/// The argument refused for these shapes of q, k_cache, v_cache and out.
fn refused(shapes: [[usize; 2]; 4], dims: AttentionDims) -> &'static str {
    let d = Device::Cpu;
    let [q, key, value, out] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    let cache = KvCache { key, value, sequences: 1, format: KvFormat::F32 };
    let cursor = d.alloc(DType::U32, [1]).unwrap();
    match kernels::attention(&mut Plan::new(&d), &q, &cache, &cursor, &out, dims) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
        Err(Error::Argument { .. }) => "dims",
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_shapes() {
    let right = [[3, 64], [5, 32], [5, 32], [3, 64]];
    assert_eq!(refused(right, GOLDEN), "none");
    assert_eq!(refused([[3, 60], [5, 32], [5, 32], [3, 64]], GOLDEN), "q");
    assert_eq!(refused([[3, 64], [5, 31], [5, 32], [3, 64]], GOLDEN), "k_cache");
    assert_eq!(refused([[3, 64], [5, 32], [4, 32], [3, 64]], GOLDEN), "v_cache");
    assert_eq!(refused([[3, 64], [5, 32], [5, 32], [2, 64]], GOLDEN), "out");
    assert_eq!(refused(right, AttentionDims { kv_heads: 3, ..GOLDEN }), "dims");
    assert_eq!(refused(right, AttentionDims { kv_heads: 0, ..GOLDEN }), "dims");
    assert_eq!(refused(right, AttentionDims { head_dim: 257, ..GOLDEN }), "dims");
}

#[test]
fn rejects_cursor_that_is_not_u32() {
    let d = Device::Cpu;
    let q = d.alloc(DType::F32, [3, 64]).unwrap();
    let cache = KvCache::new(&d, GOLDEN, 5, KvFormat::F32).unwrap();
    let cursor = d.alloc(DType::F32, [1]).unwrap();
    let out = d.alloc(DType::F32, [3, 64]).unwrap();
    let error = kernels::attention(&mut Plan::new(&d), &q, &cache, &cursor, &out, GOLDEN).unwrap_err();
    assert!(matches!(error, Error::DType { arg: "cursor", .. }), "{error}");
}

#[test]
fn rejects_what_sequences_do_not_share_evenly() {
    let d = Device::Cpu;
    let cache = |sequences| KvCache { sequences, ..KvCache::new(&d, GOLDEN, 6, KvFormat::F32).unwrap() };
    let run = |rows: usize, cursors: usize, sequences| {
        let [q, out] = [(); 2].map(|()| d.alloc(DType::F32, [rows, 64]).unwrap());
        let cursor = d.alloc(DType::U32, [cursors]).unwrap();
        kernels::attention(&mut Plan::new(&d), &q, &cache(sequences), &cursor, &out, GOLDEN)
    };
    assert!(run(4, 2, 2).is_ok());
    assert!(run(3, 2, 2).unwrap_err().to_string().contains("3 tokens of 2 sequences"));
    assert!(run(3, 0, 0).unwrap_err().to_string().contains("3 tokens of 0 sequences"));
    assert!(matches!(run(4, 1, 2).unwrap_err(), Error::Shape { arg: "cursor", .. }));
    assert!(matches!(run(4, 4, 4).unwrap_err(), Error::Shape { arg: "k_cache", .. }), "6 rows of 4 sequences");
}

/// What codes hold is what attention sees: the same result as on a cache of their values in f32.
#[test]
fn a_cache_of_codes_is_a_cache_of_their_values() {
    const DIMS: AttentionDims = AttentionDims { heads: 4, kv_heads: 2, head_dim: 40 };
    let values = |n: usize| (0..n).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0).collect::<Vec<_>>();
    for d in [Device::Cpu, gpu()] {
        let cursor = |at| d.upload_words(DType::U32, [1], &[at]).unwrap();
        let upload = |x: &[f32], width: usize| d.upload_f32([x.len() / width, width], x).unwrap();
        let on = |cache: &KvCache, k: &[f32], v: &[f32]| {
            let out = d.alloc(DType::F32, [3, 160]).unwrap();
            let mut plan = Plan::new(&d);
            kernels::kv_append(&mut plan, &upload(k, 80), &upload(v, 80), &cursor(0), cache, DIMS).unwrap();
            kernels::attention(&mut plan, &upload(&values(480), 160), cache, &cursor(6), &out, DIMS).unwrap();
            plan.record().unwrap().run().unwrap();
            block_on(d.read_f32(&out)).unwrap()
        };
        let (k, v) = (values(9 * 80), values(11 * 80)[160..].to_vec());
        let exact = on(&KvCache::new(&d, DIMS, 9, KvFormat::F32).unwrap(), &k, &v);
        let formats = [(KvFormat::F16, 1e-9, 1e-6), (KvFormat::Int8, 1e-7, 1e-4), (KvFormat::Int4, 1e-4, 3e-2)];
        for (format, least, largest) in formats {
            let codes = KvCache::new(&d, DIMS, 9, format).unwrap();
            let got = on(&codes, &k, &v);
            let [keys, seen] = block_on(codes.read(&d, DIMS, 0, 9)).unwrap();
            assert_close(&got, &on(&KvCache::new(&d, DIMS, 9, KvFormat::F32).unwrap(), &keys, &seen), 1e-10);
            let (lost, _) = kernels::check::error(&got, &exact);
            assert!(lost > least && lost < largest, "{format:?}: {lost:.2e}");
        }
    }
}
