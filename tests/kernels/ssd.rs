//! The chunked kernels together, and the one-token kernels in turn, against the recurrence and golden values.

use pollster::block_on;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, Columns, SsdDims};
use wgquant::reference::scan::{Scan, selective_scan};
use wgquant::tensor::{DType, Tensor, unpack_halves};

use super::common::{assert_close, golden, gpu};

const ANY_DT: (f32, f32) = (0.0, f32::INFINITY);
/// f32 sums and decays. The strongest decay sums da to -2000, whose ulp, 1e-4, is then the relative error of exp,
/// but of terms that are 1e-6 of the newest one.
const NMSE: f64 = 1e-9;

/// A mixer's inputs on the host.
#[derive(Clone)]
struct Layer {
    dims: SsdDims,
    tokens: usize,
    /// `[tokens, conv_dim]`.
    xbc: Vec<f32>,
    /// `[tokens, heads]`.
    dt_raw: Vec<f32>,
    dt_bias: Vec<f32>,
    a_log: Vec<f32>,
    d: Vec<f32>,
    /// `[heads, head_dim * state]`.
    state: Vec<f32>,
}

/// `count` values uniform in `from..to`.
fn uniform(rng: &mut ChaCha8Rng, count: usize, from: f32, to: f32) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(from..to)).collect()
}

#[derive(Clone, Copy, Debug)]
enum Decay {
    /// A near -1e-4: the state forgets nothing.
    Weak,
    /// As trained: dt around 0.02, A in -16..-1.
    Usual,
    /// A = -16 and dt around 1: nothing of the past is left, da sums to thousands.
    Strong,
}

impl Layer {
    fn new(dims: SsdDims, tokens: usize, decay: Decay) -> Self {
        let rng = &mut ChaCha8Rng::seed_from_u64((tokens * 131 + dims.chunk) as u64);
        let (bias, a_log) = match decay {
            Decay::Weak => (-1.0, -9.2),
            Decay::Usual => (-4.0, 1.4),
            Decay::Strong => (0.5, 2.7),
        };
        Self {
            dims,
            tokens,
            xbc: uniform(rng, tokens * dims.conv_dim(), -1.0, 1.5),
            dt_raw: uniform(rng, tokens * dims.heads, -1.0, 1.0),
            dt_bias: uniform(rng, dims.heads, bias - 0.2, bias + 0.2),
            a_log: uniform(rng, dims.heads, a_log - 0.1, a_log + 0.1),
            d: uniform(rng, dims.heads, -1.0, 1.0),
            state: uniform(rng, dims.state_len(), -1.0, 1.0),
        }
    }

    fn golden(name: &str, initial: bool, chunk: usize) -> Self {
        let g = golden();
        let at = |t: &str| format!("ssd.{name}.{t}");
        let (x_shape, b_shape) = (g.shape(&at("x")), g.shape(&at("B")));
        let (tokens, heads, head_dim) = (x_shape[0], x_shape[1], x_shape[2]);
        let dims = SsdDims { heads, head_dim, groups: b_shape[1], state: b_shape[2], chunk };
        let (x, b, c) = (g.f32(&at("x")), g.f32(&at("B")), g.f32(&at("C")));
        let width = dims.groups * dims.state;
        let xbc = (0..tokens).flat_map(|t| {
            let parts =
                [&x[t * dims.d_inner()..][..dims.d_inner()], &b[t * width..][..width], &c[t * width..][..width]];
            parts.concat()
        });
        Self {
            dims,
            tokens,
            xbc: xbc.collect(),
            dt_raw: g.f32(&at("dt_raw")),
            dt_bias: g.f32(&at("dt_bias")),
            a_log: g.f32(&at("A_log")),
            d: g.f32(&at("D")),
            state: if initial { g.f32(&at("init_state")) } else { vec![0.0; dims.state_len()] },
        }
    }

    /// Outputs and final state by the recurrence.
    fn recurrence(&self) -> (Vec<f32>, Vec<f32>) {
        let SsdDims { heads, head_dim, groups, state, .. } = self.dims;
        let mut s: Vec<f64> = self.state.iter().map(|v| f64::from(*v)).collect();
        let scan = Scan {
            heads,
            head_dim,
            groups,
            state,
            xbc: &self.xbc,
            dt_raw: &self.dt_raw,
            dt_bias: &self.dt_bias,
            a_log: &self.a_log,
            d: &self.d,
            dt_limit: ANY_DT,
        };
        let y = selective_scan(&scan, &mut s);
        let round = |v: Vec<f64>| v.into_iter().map(|v| v as f32).collect();
        (round(y), round(s))
    }

    /// The four chunked kernels of f16 likewise: what they read of `xbc`, and the outputs, are rounded to f16.
    fn chunked_in_f16(&self, device: &Device, range: std::ops::Range<usize>, state: &DeviceTensor) -> Vec<f32> {
        let (dims, tokens) = (self.dims, range.len());
        let alloc = |dtype, shape: [usize; 2]| device.alloc(dtype, shape).unwrap();
        let values = &self.xbc[range.start * dims.conv_dim()..range.end * dims.conv_dim()];
        let (_, raw) = self.inputs(device, range);
        let xbc = Tensor::from_f32_as(DType::F16, [tokens, dims.conv_dim()], values).unwrap();
        let xbc = device.upload(&xbc).unwrap();
        let raw = Columns::new("test", &raw, 3, dims.heads).unwrap();
        let [bias, a_log, d] = self.vectors(device);
        let (dt, sums) = (alloc(DType::F32, [dims.heads, tokens]), alloc(DType::F32, [dims.heads, tokens]));
        let entering = alloc(DType::F16, [dims.chunks(tokens), dims.state_len()]);
        let products = alloc(DType::F16, [tokens, dims.products_len(DType::F16)]);
        let y = alloc(DType::F16, [tokens, dims.d_inner()]);
        let plan = &mut Plan::new(device);
        kernels::chunk_cumsum(plan, &raw, &bias, &a_log, &dt, &sums, dims, ANY_DT).unwrap();
        kernels::chunk_entering(plan, &xbc, &dt, &sums, state, &entering, dims).unwrap();
        kernels::chunk_products(plan, &xbc, &products, dims).unwrap();
        kernels::chunk_scan(plan, &xbc, &products, &dt, &sums, &entering, &d, &y, dims).unwrap();
        std::mem::replace(plan, Plan::new(device)).record().unwrap().run().unwrap();
        unpack_halves(&block_on(device.read(&y)).unwrap())[..tokens * dims.d_inner()].to_vec()
    }

    /// The five chunked kernels on tokens `range`, from `state`, which they update; gives the outputs.
    fn chunked(&self, device: &Device, range: std::ops::Range<usize>, state: &DeviceTensor) -> Vec<f32> {
        let (dims, tokens) = (self.dims, range.len());
        let alloc = |shape: [usize; 2]| device.alloc(DType::F32, shape).unwrap();
        let (xbc, raw) = self.inputs(device, range);
        let raw = Columns::new("test", &raw, 3, dims.heads).unwrap();
        let [bias, a_log, d] = self.vectors(device);
        let (dt, sums) = (alloc([dims.heads, tokens]), alloc([dims.heads, tokens]));
        let states = alloc([dims.chunks(tokens), dims.state_len()]);
        let entering = alloc([dims.chunks(tokens), dims.state_len()]);
        let y = alloc([tokens, dims.d_inner()]);
        let plan = &mut Plan::new(device);
        kernels::chunk_cumsum(plan, &raw, &bias, &a_log, &dt, &sums, dims, ANY_DT).unwrap();
        kernels::chunk_state(plan, &xbc, &dt, &sums, &states, dims).unwrap();
        kernels::state_passing(plan, &states, &sums, state, &entering, dims, tokens).unwrap();
        let products = alloc([tokens, dims.products_len(DType::F32)]);
        kernels::chunk_products(plan, &xbc, &products, dims).unwrap();
        kernels::chunk_scan(plan, &xbc, &products, &dt, &sums, &entering, &d, &y, dims).unwrap();
        std::mem::replace(plan, Plan::new(device)).record().unwrap().run().unwrap();
        block_on(device.read_f32(&y)).unwrap()
    }

    /// One token by the one-token kernel.
    fn one_token(&self, device: &Device, token: usize, state: &DeviceTensor) -> Vec<f32> {
        let dims = self.dims;
        let (xbc, raw) = self.inputs(device, token..token + 1);
        let raw = Columns::new("test", &raw, 3, dims.heads).unwrap();
        let [bias, a_log, d] = self.vectors(device);
        let y = device.alloc(DType::F32, [1, dims.d_inner()]).unwrap();
        let mut plan = Plan::new(device);
        kernels::selective_state_update(&mut plan, &xbc, &raw, &bias, &a_log, &d, state, &y, dims, ANY_DT).unwrap();
        plan.record().unwrap().run().unwrap();
        block_on(device.read_f32(&y)).unwrap()
    }

    fn initial(&self, device: &Device) -> DeviceTensor {
        device.upload_f32([self.dims.heads, self.dims.head_dim * self.dims.state], &self.state).unwrap()
    }

    /// xbc, and dt_raw behind three columns of something else.
    fn inputs(&self, device: &Device, range: std::ops::Range<usize>) -> (DeviceTensor, DeviceTensor) {
        let (width, heads, tokens) = (self.dims.conv_dim(), self.dims.heads, range.len());
        let xbc = &self.xbc[range.start * width..range.end * width];
        let raw = self.dt_raw[range.start * heads..range.end * heads].chunks(heads);
        let raw: Vec<f32> = raw.flat_map(|row| [&[7.0; 3], row].concat()).collect();
        (device.upload_f32([tokens, width], xbc).unwrap(), device.upload_f32([tokens, heads + 3], &raw).unwrap())
    }

    fn vectors(&self, device: &Device) -> [DeviceTensor; 3] {
        [&self.dt_bias, &self.a_log, &self.d].map(|v| device.upload_f32([v.len()], v).unwrap())
    }

    /// The chunked kernels over calls of these lengths, against the recurrence.
    fn check_calls(&self, device: &Device, lengths: &[usize]) {
        let (want_y, want_state) = self.recurrence();
        let state = self.initial(device);
        let (mut y, mut first) = (Vec::new(), 0);
        for length in lengths {
            y.extend(self.chunked(device, first..first + length, &state));
            first += length;
        }
        assert_close(&y, &want_y, NMSE);
        assert_close(&block_on(device.read_f32(&state)).unwrap(), &want_state, NMSE);
    }
}

/// Groups, and states and head widths that are no power of two.
const SIZES: [[usize; 4]; 5] = [[4, 16, 2, 32], [2, 40, 1, 16], [3, 80, 3, 40], [2, 96, 2, 80], [2, 32, 1, 96]];

#[test]
fn chunked_equals_recurrence() {
    for device in [Device::Cpu, gpu()] {
        for (i, chunk) in [1, 2, 7, 16, 64, 128, 50].into_iter().enumerate() {
            let several = 2 * chunk + chunk / 2 + 1;
            let lengths = if chunk == 50 { vec![50] } else { vec![1, chunk - 1, chunk, chunk + 1, several] };
            for (j, tokens) in lengths.into_iter().filter(|t| *t > 0).enumerate() {
                let [heads, head_dim, groups, state] = SIZES[(i + j) % SIZES.len()];
                let dims = SsdDims { heads, head_dim, groups, state, chunk };
                for decay in [Decay::Weak, Decay::Usual, Decay::Strong] {
                    eprintln!("{} {dims:?} {tokens} {decay:?}", device.name());
                    Layer::new(dims, tokens, decay).check_calls(&device, &[tokens]);
                }
            }
        }
    }
}

/// Errors of f16: up to 2^-12 of x, B and C, of states and of products, in the mean of squares 2e-8 each, and several times that
/// where terms cancel. No more where the state is carried over calls, as it is f32 then.
#[test]
fn chunked_in_f16_is_near_the_recurrence() {
    for device in [Device::Cpu, gpu()] {
        for ([heads, head_dim, groups, state], chunk) in SIZES.into_iter().zip([64, 7, 16, 50, 128]) {
            let dims = SsdDims { heads, head_dim, groups, state, chunk };
            for decay in [Decay::Weak, Decay::Usual, Decay::Strong] {
                let tokens = 2 * chunk + chunk / 2 + 1;
                let layer = Layer::new(dims, tokens, decay);
                let (want_y, want_state) = layer.recurrence();
                for calls in [&[tokens][..], &[chunk + 1, tokens - chunk - 1]] {
                    let carried = layer.initial(&device);
                    let (mut y, mut first) = (Vec::new(), 0);
                    for n in calls {
                        y.extend(layer.chunked_in_f16(&device, first..first + n, &carried));
                        first += n;
                    }
                    assert_close(&y, &want_y, 1e-6);
                    assert_close(&block_on(device.read_f32(&carried)).unwrap(), &want_state, 3e-7);
                }
            }
        }
    }
}

#[test]
fn chunked_matches_golden_values() {
    for (name, initial, chunk) in
        [("a", true, 16), ("a", false, 64), ("b", true, 32), ("b", false, 96), ("c", true, 128), ("c", false, 64)]
    {
        let layer = Layer::golden(name, initial, chunk);
        let suffix = if initial { "_from_init" } else { "" };
        let (y, state) = layer.recurrence();
        let (want_y, want_state) =
            (golden().f32(&format!("ssd.{name}.y{suffix}")), golden().f32(&format!("ssd.{name}.final_state{suffix}")));
        assert_close(&y, &want_y, 1e-12);
        assert_close(&state, &want_state, 1e-12);
        // da_cumsum is stored in f32: its ulp, 1e-6 at -16, is the relative error of exp.
        for (device, nmse) in [(Device::Cpu, 1e-11), (gpu(), 1e-10)] {
            let state = layer.initial(&device);
            assert_close(&layer.chunked(&device, 0..layer.tokens, &state), &want_y, nmse);
            assert_close(&block_on(device.read_f32(&state)).unwrap(), &want_state, nmse);
        }
    }
}

#[test]
fn any_split_gives_the_same() {
    let dims = SsdDims { heads: 4, head_dim: 16, groups: 2, state: 16, chunk: 16 };
    let layer = Layer::new(dims, 45, Decay::Usual);
    for first in [1, 2, 15, 16, 17, 31, 32, 40, 44] {
        layer.check_calls(&Device::Cpu, &[first, 45 - first]);
        layer.check_calls(&gpu(), &[first, 45 - first]);
    }
    layer.check_calls(&gpu(), &[3; 15]);
}

#[test]
fn one_token_at_a_time_equals_chunked() {
    let dims = SsdDims { heads: 4, head_dim: 20, groups: 2, state: 24, chunk: 8 };
    for decay in [Decay::Weak, Decay::Usual, Decay::Strong] {
        let layer = Layer::new(dims, 21, decay);
        for device in [Device::Cpu, gpu()] {
            let (chunked, stepped) = (layer.initial(&device), layer.initial(&device));
            let want = layer.chunked(&device, 0..21, &chunked);
            let got: Vec<f32> = (0..21).flat_map(|t| layer.one_token(&device, t, &stepped)).collect();
            assert_close(&got, &want, NMSE);
            let [got, want] = [&stepped, &chunked].map(|s| block_on(device.read_f32(s)).unwrap());
            assert_close(&got, &want, NMSE);
        }
    }
}

/// Outputs and final state of the convolution over calls of these lengths; one-token calls use the update kernel.
fn convolve(device: &Device, lengths: &[usize]) -> (Vec<f32>, Vec<f32>) {
    const CHANNELS: usize = 10;
    const TAPS: usize = 4;
    let rng = &mut ChaCha8Rng::seed_from_u64(3);
    let inputs = uniform(rng, lengths.iter().sum::<usize>() * 12, -1.0, 1.0);
    let state = device.upload_f32([CHANNELS, TAPS], &uniform(rng, CHANNELS * TAPS, -1.0, 1.0)).unwrap();
    let weight = device.upload_f32([CHANNELS, TAPS], &uniform(rng, CHANNELS * TAPS, -1.0, 1.0)).unwrap();
    let bias = device.upload_f32([CHANNELS], &uniform(rng, CHANNELS, -1.0, 1.0)).unwrap();
    let (mut all, mut rest) = (Vec::new(), inputs.as_slice());
    for &length in lengths {
        let (now, later) = rest.split_at(length * 12);
        rest = later;
        let input = device.upload_f32([length, 12], now).unwrap();
        let input = Columns::new("test", &input, 1, CHANNELS).unwrap();
        let out = device.alloc(DType::F32, [length, CHANNELS]).unwrap();
        let mut plan = Plan::new(device);
        if length == 1 {
            kernels::causal_conv1d_update(&mut plan, &input, &weight, &bias, &state, &out).unwrap();
        } else {
            kernels::causal_conv1d(&mut plan, &input, &state, &weight, &bias, &out).unwrap();
            kernels::causal_conv1d_state(&mut plan, &input, &state).unwrap();
        }
        plan.record().unwrap().run().unwrap();
        all.extend(block_on(device.read_f32(&out)).unwrap());
    }
    (all, block_on(device.read_f32(&state)).unwrap())
}

#[test]
fn any_split_convolves_the_same() {
    let (want, want_state) = convolve(&Device::Cpu, &[9]);
    for lengths in [&[9][..], &[1, 8], &[2, 7], &[3, 6], &[4, 5], &[5, 4], &[8, 1], &[2, 3, 1, 3], &[1; 9]] {
        for device in [Device::Cpu, gpu()] {
            let (out, state) = convolve(&device, lengths);
            assert_close(&out, &want, 1e-11);
            assert_eq!(state, want_state);
        }
    }
}
