use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims, StateRounding, StoredState};
use wgquant::tensor::DType;

use super::common::{check_all, gpu};

#[test]
fn matches_reference() {
    check_all("ssm_round");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 16, chunk: 1 };

/// Rounding again without tokens between changes what code and kept error make together by a 14th of a step at most.
#[test]
fn a_rounded_state_stays() {
    for d in [Device::Cpu, gpu()] {
        let stored = StoredState::new(&d, DIMS, 4, true).unwrap().with_errors(&d).unwrap();
        let shape = [DIMS.heads, DIMS.head_dim * DIMS.state];
        let x: Vec<f32> = (0..DIMS.state_len()).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
        let clock = d.upload_words(DType::U32, [2], &[0, 0]).unwrap();
        let mut plan = Plan::new(&d);
        let x = d.upload_f32(shape, &x).unwrap();
        kernels::ssm_store(&mut plan, &x, &clock, &stored, DIMS, StateRounding::Feedback).unwrap();
        plan.record().unwrap().run().unwrap();
        let read = || {
            let errors = stored.errors.as_ref().unwrap();
            (block_on(d.read_codes(&stored.codes)).unwrap(), block_on(d.read_codes(errors)).unwrap())
        };
        let (codes, errors) = read();
        let fine = |codes: &[i8], errors: &[i8]| -> Vec<i32> {
            codes.iter().zip(errors).map(|(c, e)| 14 * i32::from(*c) + i32::from(*e)).collect()
        };
        let mut plan = Plan::new(&d);
        kernels::ssm_round(&mut plan, &stored, &clock, DIMS, StateRounding::Feedback).unwrap();
        plan.record().unwrap().run().unwrap();
        let (before, (codes, errors)) = (fine(&codes, &errors), read());
        let moved = before.iter().zip(fine(&codes, &errors)).map(|(a, b)| (a - b).abs()).max();
        assert!(moved <= Some(1), "{}: {moved:?} 14ths", d.name());
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let clock = d.alloc(DType::U32, [2]).unwrap();
    let stored = StoredState::of_sequences(&d, DIMS, 3, 4, true).unwrap();
    let round = |stored: &StoredState, clock, rounding| {
        kernels::ssm_round(&mut Plan::new(&d), stored, clock, DIMS, rounding).map_err(|e| e.to_string())
    };
    round(&stored, &clock, StateRounding::Nearest).unwrap();
    let error = round(&stored, &clock, StateRounding::Feedback).unwrap_err();
    assert!(error.contains("no room for errors"), "{error}");
    let long = d.alloc(DType::U32, [3]).unwrap();
    let error = round(&stored, &long, StateRounding::Nearest).unwrap_err();
    assert!(error.contains("`clock`"), "{error}");
    let other = StoredState { sequences: 2, ..stored };
    let error = round(&other, &clock, StateRounding::Nearest).unwrap_err();
    assert!(error.contains("window") || error.contains("codes"), "{error}");
}
