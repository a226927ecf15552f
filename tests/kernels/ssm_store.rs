use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims, StateRounding, StoredState};
use wgquant::tensor::DType;

use super::common::{check_all, gpu};

#[test]
fn matches_reference() {
    check_all("ssm_store");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 1, state: 64, chunk: 1 };

/// `x` stored at token `at` and loaded again.
fn round_trip(d: &Device, x: &[f32], at: u32, rotate: bool, rounding: StateRounding) -> (Vec<i8>, Vec<f32>) {
    let shape = [DIMS.heads, DIMS.head_dim * DIMS.state];
    let stored = StoredState::new(d, DIMS, 1, rotate).unwrap();
    let clock = d.upload_words(DType::U32, [2], &[at, 0]).unwrap();
    let out = d.alloc(DType::F32, shape).unwrap();
    let mut plan = Plan::new(d);
    kernels::ssm_store(&mut plan, &d.upload_f32(shape, x).unwrap(), &clock, &stored, DIMS, rounding).unwrap();
    kernels::ssm_load(&mut plan, &stored, &clock, &out, DIMS).unwrap();
    plan.record().unwrap().run().unwrap();
    (block_on(d.read_codes(&stored.codes)).unwrap(), block_on(d.read_f32(&out)).unwrap())
}

fn values() -> Vec<f32> {
    let random = |i: u32| f32::from((i.wrapping_mul(2_654_435_761) >> 16) as u16) / 32768.0 - 1.0;
    (0..DIMS.state_len() as u32).map(random).collect()
}

/// Nearest rounding moves an element of the turned row by half a step at most, so the row by sqrt(state) halves.
#[test]
fn a_round_trip_loses_half_a_step() {
    let x = values();
    for device in [Device::Cpu, gpu()] {
        let (_, back) = round_trip(&device, &x, 0, true, StateRounding::Nearest);
        for (x, back) in x.chunks(DIMS.state).zip(back.chunks(DIMS.state)) {
            let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let lost = norm(&mut x.iter().zip(back).map(|(a, b)| a - b));
            // The largest turned value is at most the norm.
            let step = norm(&mut x.iter().copied()) / 127.0;
            assert!(lost > 0.0 && lost <= step / 2.0 * (DIMS.state as f64).sqrt(), "{lost} of steps up to {step}");
        }
    }
}

/// z-test: over many draws the mean error of stochastic rounding is zero within 4 standard errors, in all and for
/// each of a few elements; nearest rounding of the same values is not.
#[test]
fn stochastic_rounding_is_unbiased() {
    const DRAWS: u32 = 400;
    // One large value sets the step to 1/127 of it; the others are 0.3 of a step.
    let x: Vec<f32> = (0..DIMS.state_len()).map(|i| if i % DIMS.state == 0 { 127.0 } else { 0.3 }).collect();
    let mut ups = vec![0u32; x.len()];
    for at in 0..DRAWS {
        let (codes, _) = round_trip(&Device::Cpu, &x, at, false, StateRounding::Stochastic(9));
        assert!(codes.iter().all(|c| [0, 1, 127].contains(c)));
        ups.iter_mut().zip(codes).for_each(|(n, c)| *n += u32::from(c == 1));
    }
    let small: Vec<f64> =
        ups.iter().enumerate().filter(|(i, _)| i % DIMS.state > 0).map(|(_, n)| f64::from(*n)).collect();
    let z = |ups: f64, n: f64| (ups - 0.3 * n) / (0.3 * 0.7 * n).sqrt();
    let all = z(small.iter().sum(), f64::from(DRAWS) * small.len() as f64);
    assert!(all.abs() < 4.0, "z of the mean {all:.2}");
    // Draws of one element are independent over tokens, and those of one token over elements.
    let squares = small.iter().map(|n| z(*n, f64::from(DRAWS)).powi(2)).sum::<f64>() / small.len() as f64;
    let error = (2.0 / small.len() as f64).sqrt();
    assert!((squares - 1.0).abs() < 5.0 * error, "mean square of z {squares:.3} +- {error:.3}");
    let (codes, _) = round_trip(&Device::Cpu, &x, 0, false, StateRounding::Nearest);
    assert_eq!(codes.iter().filter(|c| **c == 1).count(), 0, "nearest loses them all");
}

#[test]
fn draws_are_the_same_on_every_device() {
    let x = values();
    // Without the transform a code hangs on one division: no value here is within 1e-5 of a draw.
    let of = |d: &Device, at| round_trip(d, &x, at, false, StateRounding::Stochastic(3)).0;
    assert_eq!(of(&Device::Cpu, 7), of(&gpu(), 7));
    assert_ne!(of(&Device::Cpu, 7), of(&Device::Cpu, 8));
    assert_ne!(of(&Device::Cpu, 7), round_trip(&Device::Cpu, &x, 7, false, StateRounding::Stochastic(4)).0);
}

#[test]
fn errors_need_room() {
    let d = Device::Cpu;
    let stored = StoredState::new(&d, DIMS, 1, true).unwrap();
    let x = d.alloc(DType::F32, [DIMS.heads, DIMS.head_dim * DIMS.state]).unwrap();
    let clock = d.alloc(DType::U32, [2]).unwrap();
    let store = |stored: &StoredState| {
        kernels::ssm_store(&mut Plan::new(&d), &x, &clock, stored, DIMS, StateRounding::Feedback)
    };
    let error = store(&stored).unwrap_err().to_string();
    assert!(error.contains("no room for errors"), "{error}");
    store(&stored.with_errors(&d).unwrap()).unwrap();
}
