//! A NaN or an infinity in an input stays in its row, channel or head: neighbours are the same, bit for bit. It is put
//! in, and looked for, as bits: a shader may assume that there is none, so what it makes of one is not tested.

use pollster::block_on;
use wgquant::Result;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, AttentionDims, Columns, Epilogue, GatedNorm, KvCache, KvFormat, Scaled, SsdDims};
use wgquant::tensor::DType;

/// NaN with two patterns, the infinities, and the largest float.
const BAD: [u32; 5] = [0x7fc0_0000, 0xffff_ffff, 0x7f80_0000, 0xff80_0000, 0x7f7f_ffff];
const ROWS: usize = 13;
const COLS: usize = 70;
/// Row and column of the bad value.
const AT: (usize, usize) = (6, 33);

fn values(n: usize) -> Vec<u32> {
    (0..n).map(|i| (((i * 7919 + 13) % 1009) as f32 / 504.0 - 1.0).to_bits()).collect()
}

/// Words of a `[ROWS, cols]` output for a `[ROWS, COLS]` `x` with this word at [`AT`].
fn run(op: impl Fn(&mut Plan, &DeviceTensor, &DeviceTensor) -> Result<()>, cols: usize, bad: Option<u32>) -> Vec<u32> {
    let device = super::common::gpu();
    let mut x = values(ROWS * COLS);
    if let Some(bad) = bad {
        x[AT.0 * COLS + AT.1] = bad;
    }
    let x = device.upload_words(DType::F32, [ROWS, COLS], &x).unwrap();
    let out = device.alloc(DType::F32, [ROWS, cols]).unwrap();
    let mut plan = Plan::new(&device);
    op(&mut plan, &x, &out).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(device.read(&out)).unwrap()
}

/// Outputs outside of what `touched(row, column)` allows do not change.
#[track_caller]
fn stays(
    name: &str,
    cols: usize,
    op: impl Fn(&mut Plan, &DeviceTensor, &DeviceTensor) -> Result<()>,
    touched: impl Fn(usize, usize) -> bool,
) {
    let want = run(&op, cols, None);
    for bad in BAD {
        let got = run(&op, cols, Some(bad));
        let changed = (0..got.len()).find(|i| got[*i] != want[*i] && !touched(i / cols, i % cols));
        assert_eq!(changed, None, "{name}: {bad:#010x} in {AT:?} reaches this element");
        assert_ne!(got, want, "{name}: {bad:#010x} leaves no trace at all");
    }
}

fn weight(device: &Device, shape: [usize; 2]) -> DeviceTensor {
    device.upload_words(DType::F32, shape, &values(shape[0] * shape[1])).unwrap()
}

#[test]
fn nan_stays_in_its_element() {
    let d = super::common::gpu();
    let scale = weight(&d, [1, COLS]);
    let only = |r, c| (r, c) == AT;
    stays("scale_channels", COLS, |p, x, out| kernels::scale_channels(p, x, &scale, out), only);
}

#[test]
fn nan_stays_in_its_row() {
    let d = super::common::gpu();
    let (scale, square) = (weight(&d, [1, COLS]), weight(&d, [COLS, COLS]));
    let row = |r, _| r == AT.0;
    stays("rms_norm", COLS, |p, x, out| kernels::rms_norm(p, x, &scale, out, 1e-5), row);
    stays("matmul_f32", COLS, |p, x, out| kernels::matmul_f32(p, x, &square, out, Epilogue::Store), row);
    stays("hadamard", COLS, |p, x, out| kernels::hadamard(p, x, out, 2), row);
}

/// Codes are numbers, so what is none must show in their scale; of the row or group that it is in, and of no other.
#[test]
fn codes_of_nan_have_a_scale_that_is_none() {
    const WIDE: usize = 256;
    type Op = fn(&mut Plan, &DeviceTensor, &DeviceTensor, Scaled<'_>) -> Result<()>;
    let norm: Op = |p, x, scale, out| kernels::rms_norm_quantize(p, x, scale, out, 1e-5);
    let gated: Op = |p, x, scale, out| {
        let gate = p.device().upload_f32([ROWS, WIDE], &[1.0; ROWS * WIDE])?;
        let how = GatedNorm { groups: 2, block: 32, eps: 1e-5 };
        kernels::rms_norm_gated_quantize(p, x, &Columns::from(&gate), scale, out, how)
    };
    let tokens: Op = |p, x, _, out| kernels::quantize_tokens(p, x, out.codes, out.scales, out.group);
    let turned: Op = |p, x, _, out| kernels::hadamard_groups(p, x, out, 32);
    let spun: Op = |p, x, _, out| kernels::hadamard_quantize(p, x, out, WIDE, 1.0 / 16.0);
    let ops: [(&str, Op, usize, usize); 8] = [
        ("hadamard_quantize", spun, WIDE, WIDE),
        ("quantize_tokens", tokens, WIDE, WIDE),
        ("quantize_tokens", tokens, 32, 32),
        ("rms_norm_quantize", norm, WIDE, WIDE),
        ("rms_norm_quantize", norm, 32, WIDE),
        ("rms_norm_gated_quantize", gated, WIDE, WIDE),
        ("rms_norm_gated_quantize", gated, 32, WIDE / 2),
        ("hadamard_groups", turned, 32, 32),
    ];
    for device in [super::common::gpu(), Device::Cpu] {
        for (name, op, group, reach) in ops {
            for bad in &BAD[..4] {
                let mut x = values(ROWS * WIDE);
                x[AT.0 * WIDE + AT.1] = *bad;
                let x = device.upload_words(DType::F32, [ROWS, WIDE], &x).unwrap();
                let ones = device.upload_f32([1, WIDE], &[1.0; WIDE]).unwrap();
                let codes = device.alloc(DType::I8, [ROWS, WIDE]).unwrap();
                let scales = device.alloc(DType::F32, [ROWS, WIDE / group]).unwrap();
                let mut plan = Plan::new(&device);
                op(&mut plan, &x, &ones, Scaled { codes: &codes, scales: &scales, group }).unwrap();
                plan.record().unwrap().run().unwrap();
                let scales = block_on(device.read(&scales)).unwrap();
                for (i, scale) in scales.iter().enumerate() {
                    let (row, column) = (i * group / WIDE, i * group % WIDE);
                    let reached = row == AT.0 && column / reach == AT.1 / reach;
                    // Over an infinite norm other values are 0, or what 0 times infinity is.
                    if reached && column / group != AT.1 / group && bad << 9 == 0 {
                        continue;
                    }
                    let finite = scale & 0x7f80_0000 != 0x7f80_0000;
                    assert_eq!(
                        finite,
                        !reached,
                        "{name} by {group} of {bad:#010x} on {}: {scale:#010x}",
                        device.name()
                    );
                }
            }
        }
    }
}

/// Of rows of 4096 f16, for which there is a form that looks at one element, since a transform of one run spreads it to all.
#[test]
fn codes_of_a_transformed_nan_have_a_scale_that_is_none() {
    for device in [super::common::gpu(), Device::Cpu] {
        for bad in [0x7e00u32, 0x7c00, 0xfc00] {
            let mut words = vec![0x3c00_3800u32; 2 * 4096 / 2];
            words[2048 + 777] = 0x3c00 | bad << 16;
            let x = device.upload_words(DType::F16, [2, 4096], &words).unwrap();
            let codes = device.alloc(DType::I8, [2, 4096]).unwrap();
            let scales = device.alloc(DType::F32, [2, 1]).unwrap();
            let mut plan = Plan::new(&device);
            let out = Scaled { codes: &codes, scales: &scales, group: 4096 };
            kernels::hadamard_quantize(&mut plan, &x, out, 4096, 1.0 / 64.0).unwrap();
            plan.record().unwrap().run().unwrap();
            let scales = block_on(device.read(&scales)).unwrap();
            let finite: Vec<bool> = scales.iter().map(|scale| scale & 0x7f80_0000 != 0x7f80_0000).collect();
            assert_eq!(finite, [true, false], "{bad:#06x} on {}: {scales:x?}", device.name());
        }
    }
}

/// Maxima and minima of floats drop NaN: those of a squared ReLU, of a softmax and of a cache's codes must not.
#[test]
fn nan_is_not_swallowed() {
    let square = weight(&super::common::gpu(), [COLS, COLS]);
    let dims = AttentionDims { heads: 1, kv_heads: 1, head_dim: COLS };
    let squares = |p: &mut Plan, x: &DeviceTensor, out: &DeviceTensor| kernels::relu_squared(p, x, out);
    let product = |p: &mut Plan, x: &DeviceTensor, out: &DeviceTensor| {
        kernels::matmul_f32(p, x, &square, out, Epilogue::ReluSquared)
    };
    let attention = |format: KvFormat| {
        move |p: &mut Plan, k: &DeviceTensor, out: &DeviceTensor| {
            let d = p.device().clone();
            let cursor = d.upload_words(DType::U32, [1], &[0])?;
            let cache = KvCache::new(&d, dims, ROWS, format)?;
            let q = weight(&d, [ROWS, COLS]);
            kernels::kv_append(p, k, &q, &cursor, &cache, dims)?;
            kernels::attention(p, &q, &cache, &cursor, out, dims)
        }
    };
    let none = |got: &[u32], at: usize| got[at] & 0x7f80_0000 == 0x7f80_0000;
    for nan in &BAD[..2] {
        let got = run(squares, COLS, Some(*nan));
        assert!((0..got.len()).all(|i| none(&got, i) == (i == AT.0 * COLS + AT.1)), "relu_squared of {nan:#010x}");
        let got = run(product, COLS, Some(*nan));
        assert!((0..got.len()).all(|i| none(&got, i) == (i / COLS == AT.0)), "matmul_f32 of {nan:#010x}");
        for format in [KvFormat::F32, KvFormat::Int8, KvFormat::Int4] {
            let got = run(attention(format), COLS, Some(*nan));
            assert!((0..got.len()).all(|i| none(&got, i) == (i / COLS >= AT.0)), "{format:?} key of {nan:#010x}");
        }
    }
}

/// A bad row of the weight is a bad output column.
#[test]
fn nan_of_a_weight_stays_in_its_column() {
    let d = super::common::gpu();
    let tokens = weight(&d, [ROWS, COLS]);
    let op =
        |p: &mut Plan, x: &DeviceTensor, out: &DeviceTensor| kernels::matmul_f32(p, &tokens, x, out, Epilogue::Store);
    stays("matmul_f32", ROWS, op, |_, c| c == AT.0);
}

/// A convolution looks back three tokens.
#[test]
fn nan_stays_in_its_channel_and_future() {
    let d = super::common::gpu();
    let (state, taps, bias) = (weight(&d, [COLS, 4]), weight(&d, [COLS, 4]), weight(&d, [1, COLS]));
    let op = |p: &mut Plan, x: &DeviceTensor, out: &DeviceTensor| {
        let input = Columns::new("causal_conv1d", x, 0, COLS)?;
        kernels::causal_conv1d(p, &input, &state, &taps, &bias, out)
    };
    stays("causal_conv1d", COLS, op, |r, c| c == AT.1 && (AT.0..AT.0 + 4).contains(&r));
}

/// Scores of masked keys are selected away, not multiplied by zero. (A NaN in a value is: docs/driver-faults.md.)
#[test]
fn nan_of_a_later_key_stays_in_the_future() {
    let d = super::common::gpu();
    let dims = AttentionDims { heads: 1, kv_heads: 1, head_dim: COLS };
    let (q, v) = (weight(&d, [ROWS, COLS]), weight(&d, [ROWS, COLS]));
    let cursor = d.upload_words(DType::U32, [1], &[0]).unwrap();
    let op = |p: &mut Plan, k: &DeviceTensor, out: &DeviceTensor| {
        let cache = KvCache { key: k.clone(), value: v.clone(), sequences: 1, format: KvFormat::F32 };
        kernels::attention(p, &q, &cache, &cursor, out, dims)
    };
    stays("attention", COLS, op, |r, _| r >= AT.0);
}

/// Likewise B of a later token of the same chunk.
#[test]
fn nan_of_a_later_b_stays_in_the_future() {
    const STATE: usize = 8;
    let d = super::common::gpu();
    let dims = SsdDims { heads: 2, head_dim: 8, groups: 1, state: STATE, chunk: 16 };
    let width = 16 + 2 * STATE;
    let run = |bad: Option<u32>| {
        let mut xbc = values(ROWS * width);
        if let Some(bad) = bad {
            xbc[AT.0 * width + 16 + 3] = bad;
        }
        let xbc = d.upload_words(DType::F32, [ROWS, width], &xbc).unwrap();
        let dt = d.upload_f32([2, ROWS], &[0.5; 2 * ROWS]).unwrap();
        let decay: Vec<f32> = (0..2 * ROWS).map(|i| -0.1 * (i % ROWS) as f32).collect();
        let decay = d.upload_f32([2, ROWS], &decay).unwrap();
        let entering = weight(&d, [1, 16 * STATE]);
        let skip = weight(&d, [1, 2]);
        let y = d.alloc(DType::F32, [ROWS, 16]).unwrap();
        let mut plan = Plan::new(&d);
        let products = d.alloc(DType::F32, [ROWS, dims.products_len(DType::F32)]).unwrap();
        kernels::chunk_products(&mut plan, &xbc, &products, dims).unwrap();
        kernels::chunk_scan(&mut plan, &xbc, &products, &dt, &decay, &entering, &skip, &y, dims).unwrap();
        plan.record().unwrap().run().unwrap();
        block_on(d.read(&y)).unwrap()
    };
    let want = run(None);
    for bad in BAD {
        let got = run(Some(bad));
        let changed = (0..got.len()).find(|i| got[*i] != want[*i]).expect("it leaves a trace");
        assert!(changed / 16 >= AT.0, "{bad:#010x} of token {} reaches token {}", AT.0, changed / 16);
    }
}
