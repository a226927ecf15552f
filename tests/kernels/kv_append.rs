use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, AttentionDims, KvCache, KvFormat};
use wgquant::tensor::DType;

use super::common::{check_all, gpu};

#[test]
fn matches_reference() {
    check_all("kv_append");
}

const fn dims(kv_heads: usize, head_dim: usize) -> AttentionDims {
    AttentionDims { heads: kv_heads, kv_heads, head_dim }
}

/// Appends `k` and its negative, `step` tokens at a time from token `first` on.
fn append(d: &Device, cache: &KvCache, dims: AttentionDims, k: &[f32], first: usize, step: usize) {
    let width = dims.kv_heads * dims.head_dim;
    for (i, k) in k.chunks(step * width).enumerate() {
        let v: Vec<f32> = k.iter().map(|k| -k).collect();
        let [k, v] = [k, &v].map(|x| d.upload_f32([x.len() / width, width], x).unwrap());
        let cursor = d.upload_words(DType::U32, [1], &[(first + i * step) as u32]).unwrap();
        let mut plan = Plan::new(d);
        kernels::kv_append(&mut plan, &k, &v, &cursor, cache, dims).unwrap();
        plan.record().unwrap().run().unwrap();
    }
}

#[test]
fn reference_keeps_other_rows() {
    let d = Device::Cpu;
    let cache = |x| d.upload_f32([4, 1], &[x; 4]).unwrap();
    let cache = KvCache { key: cache(0.5), value: cache(0.25), sequences: 1, format: KvFormat::F32 };
    append(&d, &cache, dims(1, 1), &[1.0, 2.0], 1, 2);
    assert_eq!(block_on(d.read_f32(&cache.key)).unwrap(), [0.5, 1.0, 2.0, 0.5]);
    assert_eq!(block_on(d.read_f32(&cache.value)).unwrap(), [0.25, -1.0, -2.0, 0.25]);
}

/// int4 by hand: 32 elements a scale, so 40 are two groups; scale 7 / 7 and 14 / 7, ties to even.
#[test]
fn reference_rounds_by_groups() {
    let d = Device::Cpu;
    let dims = dims(1, 40);
    let cache = KvCache::new(&d, dims, 2, KvFormat::Int4).unwrap();
    let mut k = [0.0; 40];
    k[..5].copy_from_slice(&[7.0, -7.0, 2.5, 3.5, -0.5]);
    k[32..36].copy_from_slice(&[-14.0, 1.0, 3.0, 5.1]);
    append(&d, &cache, dims, &k, 1, 1);
    let [keys, values] = block_on(cache.read(&d, dims, 0, 2)).unwrap();
    assert_eq!(keys[..40], [0.0; 40], "the other token");
    let mut want = [0.0; 40];
    want[..4].copy_from_slice(&[7.0, -7.0, 2.0, 4.0]);
    want[32..36].copy_from_slice(&[-14.0, 0.0, 4.0, 6.0]);
    assert_eq!(keys[40..], want);
    assert!(values[40..].iter().zip(want).all(|(v, want)| *v == -want));
}

/// f16 by hand, two a word and an odd head's last one alone: ties to even, the range kept, subnormals, what is not a number.
#[test]
fn f16_are_the_nearest() {
    let x = [1.0, 1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 65504.0, 65519.9, 1e9, -1e9, 6.0e-8, 2.9e-8, -1e-40];
    let more = [6.1e-5, 6.103e-5, f32::INFINITY, -f32::INFINITY, f32::NAN];
    let want = [1.0, 1.0, 1.0 + 2.0 / 1024.0, 65504.0, 65504.0, 65504.0, -65504.0, 2f32.powi(-24), 0.0, 0.0];
    let want_more = [1023.0 * 2f32.powi(-24), 2f32.powi(-14), f32::INFINITY, -f32::INFINITY, f32::NAN];
    let (k, want) = ([&x[..], &more].concat(), [&want[..], &want_more].concat());
    for d in [Device::Cpu, gpu()] {
        let (dims, n) = (dims(1, 5), k.len() / 5);
        let cache = KvCache::new(&d, dims, n, KvFormat::F16).unwrap();
        append(&d, &cache, dims, &k, 0, 1);
        assert_eq!(cache.key.words(), 3 * n);
        let [keys, values] = block_on(cache.read(&d, dims, 0, n)).unwrap();
        for (i, want) in want.iter().enumerate() {
            assert!(keys[i] == *want || (keys[i].is_nan() && want.is_nan()), "{} is {}, not {want}", k[i], keys[i]);
            assert!(values[i] == -want || (values[i].is_nan() && want.is_nan()), "-{} is {}", k[i], values[i]);
        }
    }
}

/// Tokens with an outlier channel.
fn tokens(n: usize, dims: AttentionDims) -> Vec<f32> {
    let random = |i: u32| f32::from((i.wrapping_mul(2_654_435_761) >> 16) as u16) / 32768.0 - 1.0;
    let values = (0..(n * dims.kv_heads * dims.head_dim) as u32).map(random).enumerate();
    values.map(|(i, x)| if i % dims.head_dim == 5 { 20.0 * x } else { x }).collect()
}

/// Codes are of a token's own key and value: the same however calls are cut, bit for bit.
#[test]
fn pieces_give_the_same_codes() {
    let dims = dims(2, 48);
    let k = tokens(9, dims);
    for d in [Device::Cpu, gpu()] {
        for format in [KvFormat::F16, KvFormat::Int8, KvFormat::Int4] {
            let words = |step| {
                let cache = KvCache::new(&d, dims, 9, format).unwrap();
                append(&d, &cache, dims, &k, 0, step);
                [&cache.key, &cache.value].map(|t| block_on(d.read(t)).unwrap())
            };
            let whole = words(9);
            assert!(whole.iter().flatten().any(|w| *w != 0));
            assert_eq!(words(4), whole, "{format:?} four at a time");
            assert_eq!(words(1), whole, "{format:?} one at a time");
        }
    }
}

/// Every value comes back within half a step of its scale; an outlier costs int8 a whole head, int4 its 32 elements.
#[test]
fn values_come_back_within_half_a_step() {
    let dims = dims(2, 70);
    let k = tokens(4, dims);
    for d in [Device::Cpu, gpu()] {
        for (format, group, top) in [(KvFormat::Int8, 70, 127.0), (KvFormat::Int4, 32, 7.0)] {
            let cache = KvCache::new(&d, dims, 4, format).unwrap();
            append(&d, &cache, dims, &k, 0, 4);
            let [keys, values] = block_on(cache.read(&d, dims, 0, 4)).unwrap();
            let rows = k.chunks(70).zip(keys.chunks(70)).zip(values.chunks(70));
            for ((k, key), value) in rows.flat_map(|((k, key), value)| {
                k.chunks(group).zip(key.chunks(group)).zip(value.chunks(group)).collect::<Vec<_>>()
            }) {
                let step = k.iter().fold(0.0f32, |m, x| m.max(x.abs())) / top;
                for ((x, key), value) in k.iter().zip(key).zip(value) {
                    assert!((x - key).abs() <= 0.5001 * step, "{key} for {x} in steps of {step}");
                    assert_eq!(*value, -key);
                }
            }
        }
    }
}

/// A bad value spoils what shares its scale only. It is put in as bits: a shader may assume that there is none.
#[test]
fn nan_stays_within_its_scale() {
    let (d, dims) = (gpu(), dims(2, 64));
    for (format, group) in [(KvFormat::F16, 1), (KvFormat::Int8, 64), (KvFormat::Int4, 32)] {
        let run = |bad: Option<u32>| {
            let cache = KvCache::new(&d, dims, 3, format).unwrap();
            let mut k = tokens(3, dims);
            k[128 + 64 + 40] = bad.map_or(k[128 + 64 + 40], f32::from_bits);
            append(&d, &cache, dims, &k, 0, 3);
            block_on(cache.read(&d, dims, 0, 3)).unwrap().concat()
        };
        let (want, first) = (run(None), (128 + 64 + 40) / group * group);
        for bad in [0x7fc0_0000, 0xffff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff] {
            let got = run(Some(bad));
            let changed =
                |i: &usize| got[*i].to_bits() != want[*i].to_bits() && !(first..first + group).contains(&(i % 384));
            assert_eq!((0..got.len()).find(changed), None, "{format:?}: {bad:#010x} reaches this element");
        }
    }
}

/// Sequences of different lengths stay apart, and are read back apart.
#[test]
fn sequences_have_rows_of_their_own() {
    let (d, dims) = (Device::Cpu, dims(1, 4));
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Int8, KvFormat::Int4] {
        let cache = KvCache::of_sequences(&d, dims, 2, 3, format).unwrap();
        assert_eq!(cache.max(), 3);
        let k = d.upload_f32([2, 4], &[7.0, 1.0, -2.0, 3.0, -7.0, 5.0, 4.0, -1.0]).unwrap();
        let cursor = d.upload_words(DType::U32, [2], &[2, 0]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::kv_append(&mut plan, &k, &k, &cursor, &cache, dims).unwrap();
        plan.record().unwrap().run().unwrap();
        let read = |sequence| block_on(cache.read(&d, dims, sequence, 3)).unwrap();
        let near = |got: &[f32], want: [f32; 4]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 0.03);
        for x in read(0) {
            assert_eq!(x[..8], [0.0; 8], "{format:?}");
            assert!(near(&x[8..], [7.0, 1.0, -2.0, 3.0]), "{format:?}: {x:?}");
        }
        for x in read(1) {
            assert!(near(&x[..4], [-7.0, 5.0, 4.0, -1.0]), "{format:?}: {x:?}");
            assert_eq!(x[4..], [0.0; 8], "{format:?}");
        }
    }
}

#[test]
fn sizes_are_those_of_the_codes() {
    let dims = dims(8, 128);
    let bytes = |format| KvCache::new(&Device::Cpu, dims, 10, format).unwrap().bytes();
    assert_eq!(bytes(KvFormat::F32), 2 * 10 * 8 * 128 * 4);
    assert_eq!(bytes(KvFormat::F16), 2 * 10 * 8 * 128 * 2);
    assert_eq!(bytes(KvFormat::Int8), 2 * 10 * 8 * (128 + 4));
    assert_eq!(bytes(KvFormat::Int4), 2 * 10 * 8 * (64 + 4 * 4));
}

/// The argument refused for these shapes of v, cursor, k_cache and v_cache.
fn refused(shapes: [[usize; 2]; 4], cursor_type: DType, (format, dtype): (KvFormat, DType)) -> &'static str {
    let d = Device::Cpu;
    let k = d.alloc(DType::F32, [2, 8]).unwrap();
    let v = d.alloc(DType::F32, shapes[0]).unwrap();
    let [key, value] = [shapes[2], shapes[3]].map(|s| d.alloc(dtype, s).unwrap());
    let cursor = d.alloc(cursor_type, shapes[1]).unwrap();
    let cache = KvCache { key, value, sequences: 1, format };
    match kernels::kv_append(&mut Plan::new(&d), &k, &v, &cursor, &cache, dims(2, 4)) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_shapes() {
    let (f32s, int8) = ((KvFormat::F32, DType::F32), (KvFormat::Int8, DType::U32));
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [5, 8]], DType::U32, f32s), "none");
    assert_eq!(refused([[1, 8], [1, 1], [5, 8], [5, 8]], DType::U32, f32s), "v");
    assert_eq!(refused([[2, 8], [1, 2], [5, 8], [5, 8]], DType::U32, f32s), "cursor");
    assert_eq!(refused([[2, 8], [1, 1], [5, 7], [5, 8]], DType::U32, f32s), "k_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [4, 8]], DType::U32, f32s), "v_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [5, 8]], DType::F32, f32s), "cursor");
    // Two heads of a word of codes and a scale each.
    assert_eq!(refused([[2, 8], [1, 1], [5, 4], [5, 4]], DType::U32, int8), "none");
    assert_eq!(refused([[2, 8], [1, 1], [5, 4], [5, 8]], DType::U32, int8), "v_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 4], [5, 4]], DType::U32, (KvFormat::Int8, DType::F32)), "k_cache");
    assert_eq!(refused([[2, 8], [1, 1], [5, 8], [5, 8]], DType::U32, (KvFormat::F32, DType::U32)), "k_cache");
}
