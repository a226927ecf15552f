use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, Columns, GatedMixer, GroupedTokens, MambaVectors, Mixer, SsdDims, gated_vectors};
use wgquant::pack::unpack_codes;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("mamba2_update_gated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 32, groups: 2, state: 12, chunk: 1 };
const D: usize = 128;
const CHANNELS: usize = 176;
const TAPS: usize = 3;
const BLOCK: usize = 8;
const ANY_DT: (f32, f32) = (0.0, f32::INFINITY);

fn f32s(tensor: &DeviceTensor) -> Vec<f32> {
    block_on(Device::Cpu.read(tensor)).unwrap().into_iter().map(f32::from_bits).collect()
}

/// With the factors of the norm, which come of its sums, the codes are those of `mamba2_update`, gated norm and transform.
#[test]
fn is_update_gated_norm_and_transform() {
    let d = Device::Cpu;
    let values = |n: usize| -> Vec<f32> { (0..n).map(|i| ((i * 7919) % 211) as f32 * 0.01 - 1.0).collect() };
    let upload = |shape: [usize; 2]| d.upload_f32(shape, &values(shape[0] * shape[1])).unwrap();
    let alloc = |dtype, shape: [usize; 2]| d.alloc(dtype, shape).unwrap();
    let (weight, bias, per_head, norm) = (values(CHANNELS * TAPS), values(CHANNELS), values(12), values(D));
    let wide = upload([1, 8 + D + CHANNELS + 4]);
    let states = || (upload([CHANNELS, TAPS]), upload([4, 32 * 12]), alloc(DType::U32, [1, 2]));
    let columns = |offset, width| Columns::new("test", &wide, offset, width).unwrap();

    let vectors = gated_vectors(&weight, &bias, [&per_head[..4], &per_head[4..8], &per_head[8..]], &norm);
    let vectors = d.upload_f32([vectors.len()], &vectors).unwrap();
    let (codes, scales) = (alloc(DType::I8, [1, D]), alloc(DType::F32, [2, D / 32]));
    let (conv, ssm, tickets) = states();
    let all = columns(8, D + CHANNELS + 4);
    let mut plan = Plan::new(&d);
    let mixer = GatedMixer {
        projected: &all,
        vectors: &vectors,
        conv_state: &conv,
        ssm_state: &ssm,
        tickets: &tickets,
        out: GroupedTokens { codes: &codes, scales: &scales },
    };
    kernels::mamba2_update_gated(&mut plan, mixer, DIMS, ANY_DT, BLOCK).unwrap();

    let upload = |values: &[f32], shape: [usize; 2]| d.upload_f32(shape, values).unwrap();
    let (weight, bias) = (upload(&weight, [CHANNELS, TAPS]), upload(&bias, [1, CHANNELS]));
    let (per_head, norm) = (upload(&per_head, [3, 4]), upload(&norm, [1, D]));
    let (want_conv, want_ssm, tickets) = states();
    let [y, normed, want] = [(); 3].map(|()| alloc(DType::F32, [1, D]));
    let vectors = MambaVectors { conv_weight: &weight, conv_bias: &bias, per_head: &per_head };
    let raw = columns(8 + D, CHANNELS + 4);
    let eps = 1e-5;
    let mixer = Mixer { raw: &raw, vectors, conv_state: &want_conv, ssm_state: &want_ssm, tickets: &tickets, y: &y };
    kernels::mamba2_update(&mut plan, mixer, DIMS, ANY_DT).unwrap();
    kernels::rms_norm_gated(&mut plan, &y, &columns(8, D), &norm, &normed, 2, eps).unwrap();
    kernels::hadamard(&mut plan, &normed, &want, BLOCK).unwrap();
    plan.record().unwrap().run().unwrap();

    assert_eq!(f32s(&conv), f32s(&want_conv));
    assert_eq!(f32s(&ssm), f32s(&want_ssm));
    let codes = unpack_codes(8, &block_on(d.read(&codes)).unwrap(), D);
    let scales = f32s(&scales);
    for (i, (code, want)) in codes.iter().zip(f32s(&want)).enumerate() {
        let group = i / 32;
        // Two groups of codes a norm.
        let squares = &scales[4 + group / 2 * 2..][..2];
        let step = scales[group] / (squares.iter().sum::<f32>() / 64.0 + eps).sqrt();
        let off = f32::from(*code) * step - want;
        assert!(off.abs() <= 0.5001 * step, "column {i}: {off} off in steps of {step}");
    }
}

/// Shapes of vectors, conv_state, ssm_state, scales, tickets and codes.
type Shapes = [[usize; 2]; 6];
const RIGHT: Shapes =
    [[1, CHANNELS * (TAPS + 1) + 12 + D], [CHANNELS, TAPS], [4, 32 * 12], [2, D / 32], [1, 2], [1, D]];

fn launched(width: usize, shapes: Shapes, dims: SsdDims, limit: (f32, f32), block: usize) -> Result<(), Error> {
    let device = Device::Cpu;
    let input = device.alloc(DType::F32, [1, 320]).unwrap();
    let projected = Columns::new("test", &input, 0, width).unwrap();
    let [vectors, conv, ssm, scales] = [0, 1, 2, 3].map(|i: usize| device.alloc(DType::F32, shapes[i]).unwrap());
    let tickets = device.alloc(DType::U32, shapes[4]).unwrap();
    let codes = device.alloc(DType::I8, shapes[5]).unwrap();
    let mixer = GatedMixer {
        projected: &projected,
        vectors: &vectors,
        conv_state: &conv,
        ssm_state: &ssm,
        tickets: &tickets,
        out: GroupedTokens { codes: &codes, scales: &scales },
    };
    kernels::mamba2_update_gated(&mut Plan::new(&device), mixer, dims, limit, block)
}

/// The argument refused.
fn refused(width: usize, shapes: Shapes, dims: SsdDims, limit: (f32, f32), block: usize) -> String {
    match launched(width, shapes, dims, limit, block) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let sizes = D + CHANNELS + 4;
    assert_eq!(refused(sizes, RIGHT, DIMS, ANY_DT, BLOCK), "none");
    assert_eq!(refused(sizes - D, RIGHT, DIMS, ANY_DT, BLOCK), "projected");
    let names = ["vectors", "conv_state", "ssm_state", "out_scales", "tickets", "out_codes"];
    for (i, name) in names.iter().enumerate() {
        let mut shapes = RIGHT;
        shapes[i][0] += 1;
        assert_eq!(refused(sizes, shapes, DIMS, ANY_DT, BLOCK), *name);
    }
    assert_eq!(refused(sizes, RIGHT, DIMS, (2.0, 1.0), BLOCK), "mamba2_update_gated: `dt_limit`");
    assert_eq!(refused(sizes, RIGHT, SsdDims { groups: 0, ..DIMS }, ANY_DT, BLOCK), "mamba2_update_gated: `dims`");
    for block in [0, 12, 64] {
        assert_eq!(refused(sizes, RIGHT, DIMS, ANY_DT, block), "mamba2_update_gated: `block`");
    }
}

#[test]
fn rejects_what_does_not_fit() {
    assert!(kernels::gates(DIMS, 4));
    assert!(kernels::gates(SsdDims { head_dim: 96, state: 256, ..DIMS }, 4));
    assert!(kernels::gates(SsdDims { head_dim: 80, ..DIMS }, 4), "two heads are five runs");
    assert!(!kernels::gates(SsdDims { state: 260, ..DIMS }, 4));
    assert!(!kernels::gates(DIMS, 5));
    let dims = SsdDims { head_dim: 72, ..DIMS };
    assert!(!kernels::gates(dims, 4));
    let error = launched(D + CHANNELS + 4, RIGHT, dims, ANY_DT, BLOCK).unwrap_err().to_string();
    assert!(error.contains("groups of 144 channels in runs of 32"), "{error}");
}
