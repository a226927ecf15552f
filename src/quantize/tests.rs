//! GPTQ on problems small enough to check by other means.

use pollster::block_on;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::blocks::{BLOCK, Factor};
use super::gptq::gptq_in;
use super::*;
use crate::calibrate::{Means, Shift};
use crate::gpu::{Device, DeviceChoice, Plan};
use crate::kernels::{self, Epilogue, GramSums};
use crate::model::{Activations, Group, Linear, QuantizedLinear, Scales};
use crate::tensor::{DType, Tensor};

const PLAIN: GptqOptions =
    GptqOptions { damping: 0.01, act_order: false, scale_steps: 1, sweeps: 0, asymmetric: false };

fn gpu() -> Device {
    block_on(Device::open(&DeviceChoice::from("gpu"), None)).expect("tests need a GPU driver")
}

fn random(count: usize, seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn weight(rows: usize, n: usize, seed: u64) -> Vec<f32> {
    random(rows * n, seed).iter().map(|v| *v as f32).collect()
}

/// Second moments of correlated inputs of different sizes.
fn moments(n: usize, seed: u64) -> Vec<f64> {
    let tokens = 2 * n + 5;
    let (shared, own) = (random(tokens, seed), random(tokens * n, seed + 1));
    let x = |t: usize, i: usize| (own[t * n + i] + 0.7 * shared[t]) * (1.0 + ((i * 37 + 11) % 101) as f64 / 50.0);
    (0..n * n).map(|e| (0..tokens).map(|t| x(t, e / n) * x(t, e % n)).sum::<f64>() / tokens as f64).collect()
}

fn format(bits: usize, group: Group, scales: ScaleFormat) -> Format {
    Format { bits, group, scales }
}

fn plain(bits: usize, group: Group) -> Format {
    format(bits, group, ScaleFormat::Plain(DType::F32))
}

fn run(device: &Device, w: &[f32], h: &[f64], format: &Format, options: &GptqOptions) -> QuantizedLinear {
    let prepared = Prepared::on(device, "test", h, None, options).unwrap();
    gptq(w, &prepared, format, Activations::Float, options).unwrap()
}

fn nearest_to(w: &[f32], n: usize, format: &Format, steps: usize) -> QuantizedLinear {
    let linear = Linear::Float(Tensor::from_f32([w.len() / n, n], w));
    searched(&linear, format, Activations::Float, steps).unwrap()
}

#[test]
fn never_loses_more_than_nearest() {
    let formats = [
        plain(4, Group::Size(32)),
        plain(3, Group::Channel),
        format(4, Group::Size(32), ScaleFormat::Nested(6)),
        format(2, Group::Size(64), ScaleFormat::Plain(DType::BF16)),
        format(8, Group::Channel, ScaleFormat::Plain(DType::F16)),
    ];
    for (seed, (format, sweeps)) in formats.iter().flat_map(|f| [(f, 0), (f, 3)]).enumerate() {
        let (rows, n) = (9, 192);
        let (w, h) = (weight(rows, n, seed as u64), moments(n, 50 + seed as u64));
        let options = GptqOptions { sweeps, scale_steps: 24, ..GptqOptions::default() };
        let prepared = Prepared::new("test", &h, None, &options).unwrap();
        let loss = |q: &QuantizedLinear| prepared.relative_loss(&w, &q.dequantize().unwrap()).unwrap();
        let ours = loss(&gptq(&w, &prepared, format, Activations::Float, &options).unwrap());
        let nearest = loss(&nearest_to(&w, n, format, 24));
        assert!(ours < nearest, "{format:?}, {sweeps} sweeps: {ours:.3e}, nearest {nearest:.3e}");
    }
}

#[test]
fn refinement_lessens_the_loss() {
    for scales in [ScaleFormat::Nested(6), ScaleFormat::Plain(DType::F16), ScaleFormat::Plain(DType::BF16)] {
        let (rows, n) = (12, 160);
        let (w, h, format) = (weight(rows, n, 3), moments(n, 4), format(4, Group::Size(32), scales));
        let prepared = Prepared::new("test", &h, None, &PLAIN).unwrap();
        let loss = |sweeps| {
            let options = GptqOptions { sweeps, ..PLAIN };
            let q = gptq(&w, &prepared, &format, Activations::Float, &options).unwrap();
            prepared.relative_loss(&w, &q.dequantize().unwrap()).unwrap()
        };
        let (none, one, four) = (loss(0), loss(1), loss(4));
        assert!(one < none && four <= one * 1.000_001, "{scales:?}: {none:.4e}, {one:.4e}, {four:.4e}");
    }
}

#[test]
fn independent_inputs_are_rounded_to_nearest() {
    let (rows, n) = (7, 150);
    let identity: Vec<f64> = (0..n * n).map(|e| if e % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let (w, format) = (weight(rows, n, 5), plain(4, Group::Size(50)));
    let options = GptqOptions { damping: 1e-9, scale_steps: 20, ..PLAIN };
    assert_eq!(run(&Device::Cpu, &w, &identity, &format, &options), nearest_to(&w, n, &format, 20));
}

/// As a layer behind one that a fine-tuning or pruning switched off has them.
#[test]
fn weights_whose_inputs_are_zero_are_rounded_to_nearest() {
    let (rows, n) = (7, 150);
    let (w, format) = (weight(rows, n, 5), plain(4, Group::Size(50)));
    let options = GptqOptions { sweeps: 0, scale_steps: 20, ..GptqOptions::default() };
    for device in [Device::Cpu, gpu()] {
        for square in [0.0, 1e-44] {
            let moments = vec![square; n * n];
            let prepared = Prepared::on(&device, "test", &moments, Some(&moments), &options).unwrap();
            let q = gptq(&w, &prepared, &format, Activations::Float, &options).unwrap();
            assert_eq!(q, nearest_to(&w, n, &format, 20), "{square:e} on {}", device.name());
        }
    }
    assert!(Prepared::new("the site", &[f64::NAN], None, &options).is_err());
}

/// At each step the code for which, were the rest free, the error would be least.
fn greedy(w: &[f32], scale: f32, h: &[f64], bits: usize) -> Vec<i8> {
    let n = w.len();
    let half = 1i32 << (bits - 1);
    let mut codes: Vec<i8> = Vec::new();
    for i in 0..n {
        // The rest eliminated from h, one after another.
        let mut left = h.to_vec();
        for r in i + 1..n {
            let line: Vec<f64> = left[r * n..(r + 1) * n].to_vec();
            (0..n * n).for_each(|e| left[e] -= line[e / n] * line[e % n] / line[r]);
        }
        let loss = |code: i32| {
            let all = codes.iter().map(|c| i32::from(*c)).chain([code]);
            let e: Vec<f64> = all.zip(w).map(|(c, w)| f64::from(*w) - f64::from(c) * f64::from(scale)).collect();
            (0..=i).map(|a| (0..=i).map(|b| e[a] * left[a * n + b] * e[b]).sum::<f64>()).sum::<f64>()
        };
        let best = (-half..half).min_by(|a, b| loss(*a).total_cmp(&loss(*b))).unwrap();
        codes.push(best as i8);
    }
    codes
}

#[test]
fn each_step_is_the_best_one() {
    for (seed, (n, bits)) in [(1, 2), (3, 3), (4, 2), (6, 2), (6, 3), (5, 3)].into_iter().enumerate() {
        let (w, h) = (weight(1, n, seed as u64), moments(n, 9 + seed as u64));
        let q = run(&Device::Cpu, &w, &h, &plain(bits, Group::Channel), &GptqOptions { damping: 1e-9, ..PLAIN });
        let Scales::Plain(scales) = &q.scales else { panic!("plain scales") };
        let codes: &[i8] = bytemuck::cast_slice(&q.codes.bytes);
        assert_eq!(codes, greedy(&w, scales.to_f32().unwrap()[0], &h, bits), "n {n}, {bits} bits");
    }
}

#[test]
fn blocks_change_nothing() {
    let (rows, n) = (10, 300);
    let (w, h, format) = (weight(rows, n, 6), moments(n, 7), plain(3, Group::Size(32)));
    let options = GptqOptions { act_order: true, ..PLAIN };
    let prepared = Prepared::new("test", &h, None, &options).unwrap();
    let with = |block| gptq_in(&w, &prepared, &format, Activations::Float, &options, block).unwrap().0;
    assert_eq!(with(BLOCK), with(1));
    assert_eq!(with(BLOCK), with(32));
}

#[test]
fn order_of_columns_does_not_matter_with_act_order() {
    let (rows, n) = (5, 140);
    let (w, h) = (weight(rows, n, 8), moments(n, 9));
    let place: Vec<usize> = (0..n).map(|i| i * 53 % n).collect();
    let moved: Vec<f32> = (0..rows * n).map(|e| w[e / n * n + place[e % n]]).collect();
    let moved_h: Vec<f64> = (0..n * n).map(|e| h[place[e / n] * n + place[e % n]]).collect();
    let run = |w: &[f32], h: &[f64], act_order| {
        let q = run(&Device::Cpu, w, h, &plain(3, Group::Channel), &GptqOptions { act_order, ..PLAIN });
        bytemuck::cast_slice::<u8, i8>(&q.codes.bytes).to_vec()
    };
    let back = |codes: &[i8]| (0..rows * n).map(|e| codes[e / n * n + place[e % n]]).collect::<Vec<i8>>();
    assert_eq!(run(&moved, &moved_h, true), back(&run(&w, &h, true)));
    assert_ne!(run(&moved, &moved_h, false), back(&run(&w, &h, false)), "without it, order matters");
}

#[test]
fn threads_change_nothing() {
    let (rows, n) = (21, 200);
    let (w, h) = (weight(rows, n, 10), moments(n, 11));
    let shift: Vec<f64> = random(n * n, 12).iter().map(|r| 0.01 * r).collect();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let options = GptqOptions::default();
            let prepared = Prepared::new("test", &h, Some(&shift), &options).unwrap();
            gptq(&w, &prepared, &plain(4, Group::Size(40)), Activations::Float, &options).unwrap()
        })
    };
    assert_eq!(with(1), with(3));
    assert_eq!(with(1), with(2));
}

/// A weight may be quantized some rows at a time.
#[test]
fn rows_do_not_depend_on_each_other() {
    let (rows, cut, n) = (13, 8, 96);
    let (w, h, options) = (weight(rows, n, 22), moments(n, 23), GptqOptions::default());
    let format = format(4, Group::Size(32), ScaleFormat::Nested(6));
    let codes = |w: &[f32]| run(&Device::Cpu, w, &h, &format, &options).codes.bytes;
    assert_eq!(codes(&w), [codes(&w[..cut * n]), codes(&w[cut * n..])].concat());
}

#[test]
fn gpu_and_cpu_choose_the_same_codes() {
    for (sweeps, group, scales) in [
        (0, Group::Size(32), ScaleFormat::Plain(DType::BF16)),
        (4, Group::Size(32), ScaleFormat::Nested(6)),
        (4, Group::Channel, ScaleFormat::Plain(DType::F16)),
    ] {
        let (rows, n) = (37, 288);
        let (w, h) = (weight(rows, n, 13), moments(n, 14));
        let shift: Vec<f64> = random(n * n, 15).iter().map(|r| 0.01 * r).collect();
        let options = GptqOptions { sweeps, ..GptqOptions::default() };
        let run = |device: &Device| {
            let prepared = Prepared::on(device, "test", &h, Some(&shift), &options).unwrap();
            gptq(&w, &prepared, &format(4, group, scales), Activations::Float, &options).unwrap()
        };
        let (a, b) = (run(&gpu()), run(&Device::Cpu));
        let different = a.codes.bytes.iter().zip(&b.codes.bytes).filter(|(a, b)| a != b).count();
        eprintln!("{scales:?}, {sweeps} sweeps: {different} of {} codes differ", rows * n);
        assert!(different <= (rows * n).div_ceil(200), "{scales:?}, {sweeps} sweeps: {different} of {}", rows * n);
    }
}

/// Factoring on the device in f32 loses nothing that shows.
#[test]
fn factor_on_the_device() {
    let n = 333;
    let h = moments(n, 16);
    let options = GptqOptions::default();
    for device in [gpu(), Device::Cpu] {
        let mut prepared = Prepared::on(&device, "test", &h, None, &options).unwrap();
        let ordered: Vec<f32> = {
            let m = block_on(device.read_f32(&prepared.moments)).unwrap();
            (0..n * n).map(|e| m[prepared.order[e / n] * n + prepared.order[e % n]]).collect()
        };
        let (w, format) = (weight(20, n, 17), plain(4, Group::Channel));
        let loss = |prepared: &Prepared| {
            let q = gptq(&w, prepared, &format, Activations::Float, &options).unwrap();
            prepared.relative_loss(&w, &q.dequantize().unwrap()).unwrap()
        };
        let host = loss(&prepared);
        let factor = Factor::in_place(&device, device.upload_f32([n, n], &ordered).unwrap()).unwrap();
        prepared.factor = factor.expect("positive definite");
        let m = block_on(device.read_f32(&prepared.factor.m)).unwrap();
        let (mut wrong, mut all) = (0f64, 0f64);
        for (i, j) in (0..n).flat_map(|i| (0..=i).map(move |j| (i, j))) {
            let product: f64 = (i..n).map(|k| f64::from(m[k * n + i]) * f64::from(m[k * n + j])).sum();
            wrong += (product - f64::from(ordered[i * n + j])).powi(2);
            all += f64::from(ordered[i * n + j]).powi(2);
        }
        let residual = (wrong / all).sqrt();
        let here = loss(&prepared);
        eprintln!("{}: residual {residual:.1e}, loss {here:.5e}, by the host's factor {host:.5e}", device.name());
        assert!(residual < 1e-6, "{}: residual {residual:.2e}", device.name());
        assert!((here / host - 1.0).abs() < 0.01, "{}: loss {here:.4e} for {host:.4e}", device.name());
        let x = device.upload_f32([n, 3], &weight(n, 3, 18)).unwrap();
        let y = super::blocks::product(&device, &prepared.moments, &x).unwrap();
        let y: Vec<f32> = block_on(device.read_f32(&y)).unwrap();
        let stepped: Vec<f32> = prepared.order.iter().flat_map(|c| y[c * 3..c * 3 + 3].to_vec()).collect();
        let solved = device.upload_f32([n, 3], &stepped).unwrap();
        prepared.factor.solve(&device, &solved).unwrap();
        let got = block_on(device.read_f32(&solved)).unwrap();
        let x = block_on(device.read_f32(&x)).unwrap();
        let want: Vec<f32> = prepared.order.iter().flat_map(|c| x[c * 3..c * 3 + 3].to_vec()).collect();
        let (nmse, _) = crate::kernels::check::error(&got, &want);
        assert!(nmse < 1e-6, "{}: solving, NMSE {nmse:.1e}", device.name());
    }
}

/// Sums that stay on the device give what their means on the host give.
#[test]
fn wide_moments_stay_on_the_device() {
    let (device, tokens, n, rows) = (gpu(), 300, 1032, 8);
    let x = weight(tokens, n, 19);
    let off: Vec<f32> = weight(tokens, n, 20).iter().map(|r| 0.05 * r).collect();
    let [x, off] = [x, off].map(|values| device.upload_f32([tokens, n], &values).unwrap());
    let sums = || {
        let (own, shift) = (GramSums::of_one(&device, n).unwrap(), GramSums::of_two(&device, n, n).unwrap());
        let mut plan = Plan::new(&device);
        kernels::gram(&mut plan, &x, &own).unwrap();
        kernels::cross_gram(&mut plan, &off, &x, &shift).unwrap();
        plan.record().unwrap().run().unwrap();
        // Told to be so many that their shift is taken as it is.
        Means { device: device.clone(), own, shift: Some(Shift::Inputs(shift.totals().clone())), tokens: 32 * n }
    };
    let (w, format, options) = (weight(rows, n, 21), plain(4, Group::Size(24)), GptqOptions::default());
    let site = "test";
    let (own, shift) = sums().on_host().unwrap();
    let [here, there] = [
        Prepared::of(&device, site, sums(), &options).unwrap(),
        Prepared::on(&device, site, &own, shift.as_deref(), &options).unwrap(),
    ];
    assert_eq!(here.order, there.order);
    let codes = |prepared: &Prepared| {
        let q = gptq(&w, prepared, &format, Activations::Float, &options).unwrap();
        (there.relative_loss(&w, &q.dequantize().unwrap()).unwrap(), q.codes.bytes)
    };
    let ((a, ours), (b, theirs)) = (codes(&here), codes(&there));
    let different = ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
    eprintln!("loss {a:.5e} for {b:.5e}, {different} of {} codes differ", rows * n);
    assert!((a / b - 1.0).abs() < 1e-3 && different <= (rows * n).div_ceil(200));
    // The same of the weight's outputs.
    let outputs = |mut means: Means| {
        let (weight, made) =
            (device.upload_f32([rows, n], &w).unwrap(), device.alloc(DType::F32, [tokens, rows]).unwrap());
        let shift = GramSums::of_two(&device, n, rows).unwrap();
        let mut plan = Plan::new(&device);
        kernels::matmul_f32(&mut plan, &off, &weight, &made, Epilogue::Store).unwrap();
        kernels::cross_gram(&mut plan, &x, &made, &shift).unwrap();
        plan.record().unwrap().run().unwrap();
        means.shift = Some(Shift::Outputs(shift.totals().clone()));
        Prepared::of(&device, site, means, &options).unwrap()
    };
    let by_outputs = outputs(sums());
    let (c, by_them) = codes(&by_outputs);
    let different = ours.iter().zip(&by_them).filter(|(a, b)| a != b).count();
    assert!(
        (c / a - 1.0).abs() < 1e-3 && different <= (rows * n).div_ceil(200),
        "loss {c:.5e} for {a:.5e}, {different} codes"
    );
    let error = gptq(&w[n..], &by_outputs, &format, Activations::Float, &options).err().unwrap().to_string();
    assert!(error.contains("7 rows, with sums of the outputs of 8"), "{error}");
    let own_alone = Prepared::of(&Device::Cpu, site, sums(), &GptqOptions { asymmetric: false, ..options }).unwrap();
    assert!(matches!(own_alone.device, Device::Cpu) && own_alone.order == there.order, "the host reads them");
    // Of few tokens no shift is taken, of more a part.
    for on in [&device, &Device::Cpu] {
        let off = |tokens: usize| -> f64 {
            let prepared = Prepared::of(on, site, Means { tokens, ..sums() }, &options).unwrap();
            let target = prepared.target(&w).unwrap();
            target.iter().zip(&w).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
        };
        let (all, half) = (off(32 * n), off(20 * n));
        assert!(off(8 * n) == 0.0 && all > 0.0 && (half / all - 0.5).abs() < 1e-3, "{half:e} of {all:e}");
    }
}

/// Nothing is taken of the shift up to 8 tokens an input, all of it, to the bit, from 32 on.
#[test]
fn shifts_of_little_text_are_not_trusted() {
    let parts = [0, 1, 700, 800, 2000, 3200, 4000, 100_000].map(|tokens| super::given::trusted(tokens, 100));
    assert_eq!(parts, [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 1.0]);
}

#[test]
fn indefinite_moments_are_damped_or_refused() {
    let prepared = Prepared::new("test", &[1.0, 1.04, 1.04, 1.0], None, &PLAIN).unwrap();
    assert!((prepared.damping - 0.1).abs() < 1e-12, "{}", prepared.damping);
    // The most is tried, whatever lies on the way there.
    let from = GptqOptions { damping: 0.2, ..PLAIN };
    assert_eq!(Prepared::new("test", &[1.0, 1.9, 1.9, 1.0], None, &from).unwrap().damping, 1.0);
    let error = Prepared::new("the site", &[1.0, 3.0, 3.0, 1.0], None, &PLAIN).err().unwrap().to_string();
    assert!(error.contains("the site"), "{error}");
}

/// What is told of is what rounding lost of the weight that GPTQ rounded, by the moments as they are.
#[test]
fn losses_are_of_what_was_rounded() {
    let (rows, n) = (6, 48);
    let (w, h) = (weight(rows, n, 8), moments(n, 9));
    // x₀ = 1.5 x: nearly 1.5 times the weight comes closest.
    let shift: Vec<f64> = h.iter().map(|h| 0.5 * h).collect();
    let options = GptqOptions { damping: 0.05, asymmetric: true, ..PLAIN };
    let prepared = Prepared::new("test", &h, Some(&shift), &options).unwrap();
    let format = plain(4, Group::Size(16));
    let (q, aimed) = aimed_gptq(&w, &prepared, &format, Activations::Float, &options).unwrap();
    let values = q.dequantize().unwrap();
    let energy = |x: &[f32]| -> f64 {
        let of = |x: &[f32]| (0..n * n).map(|e| f64::from(x[e / n]) * h[e] * f64::from(x[e % n])).sum::<f64>();
        x.chunks(n).map(of).sum()
    };
    let errors: Vec<f32> = aimed.iter().zip(&values).map(|(a, b)| a - b).collect();
    let want = energy(&errors) / energy(&aimed);
    let found = prepared.weigher().losses(&aimed, &values).unwrap().relative(0..rows);
    assert!((found / want - 1.0).abs() < 1e-3, "{found:e}, not {want:e}");
    let of_original = prepared.relative_loss(&w, &values).unwrap();
    assert!(of_original > 5.0 * found, "{of_original:e} of the original weight, {found:e}");
}

/// f16 has few scales below 2^-14: codes keep their bits, and no weight is cut off.
#[test]
fn codes_fit_their_bits_under_subnormal_scales() {
    let (step, cols) = (2f32.powi(-24), 33);
    let steps = [0.3, 0.6, 1.0, 1.4, 1.49, 2.5, 3.4, 7.45, 20.4, 900.3];
    for bits in 2..=8 {
        let top = f32::from((1u8 << (bits - 1)) - 1);
        let largest = |row: usize| top * step * steps[row];
        let mut w = weight(steps.len(), cols, bits as u64);
        w.iter_mut().enumerate().for_each(|(i, w)| *w *= 0.9 * largest(i / cols));
        (0..steps.len()).for_each(|row| w[row * cols + 5] = if row % 2 == 0 { largest(row) } else { -largest(row) });
        let linear = Linear::Float(Tensor::from_f32([steps.len(), cols], &w));
        let format = format(bits, Group::Channel, ScaleFormat::Plain(DType::F16));
        let of = |device: &Device| block_on(nearest(device, &linear, &format, Activations::Float)).unwrap();
        let q = of(&Device::Cpu);
        q.check("test").unwrap();
        assert_eq!(of(&gpu()), q, "{bits} bits");
        let (scales, values) = (q.scales.to_f32().unwrap(), q.dequantize().unwrap());
        for (i, (w, value)) in w.iter().zip(values).enumerate() {
            let off = (w - value).abs() / scales[i / cols];
            assert!(off < 0.51, "{bits} bits, {} steps: {off} of a scale", steps[i / cols]);
        }
    }
}

/// Weights that GPUs take for zeros, or nearly so, leave the rest of their row as it is.
#[test]
fn groups_of_next_to_nothing_do_not_spread() {
    let (rows, n) = (6, 96);
    let (h, format) = (moments(n, 25), format(4, Group::Size(32), ScaleFormat::Plain(DType::BF16)));
    for (device, sweeps) in [(Device::Cpu, 0), (Device::Cpu, 4), (gpu(), 4)] {
        let options = GptqOptions { sweeps, act_order: false, ..GptqOptions::default() };
        let prepared = Prepared::on(&device, "test", &h, None, &options).unwrap();
        let loss = |size: f32| {
            let mut w = weight(rows, n, 24);
            // The first group, as nothing is made up for there: zeros stay zeros.
            (0..rows * n).filter(|i| i % n < 32).for_each(|i| w[i] = if i % 2 == 0 { 0.0 } else { size });
            let q = gptq(&w, &prepared, &format, Activations::Float, &options).unwrap();
            prepared.relative_loss(&w, &q.dequantize().unwrap()).unwrap()
        };
        let zeros = loss(0.0);
        for size in [1e-39, 5e-39, 2e-37, 1e-31] {
            let lost = loss(size);
            // In sweeps a group that has a scale may make up for others' errors.
            assert!(lost < 1.2 * zeros, "{size:e} on {}: {lost:e}, of zeros {zeros:e}", device.name());
        }
    }
}
