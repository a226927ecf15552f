use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, SsdDims, StateRounding, StoredState};
use wgquant::tensor::DType;

use super::common::{assert_close, check_all, gpu};

#[test]
fn matches_reference() {
    check_all("selective_state_update_int8");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 20, groups: 2, state: 16, chunk: 1 };
const ALL: (f32, f32) = (0.0, f32::INFINITY);

fn values(seed: u32, n: usize) -> Vec<f32> {
    let random = |i: u32| f32::from(((i + seed * 977).wrapping_mul(2_654_435_761) >> 16) as u16) / 32768.0 - 1.0;
    (0..n as u32).map(random).collect()
}

/// From a state that codes hold exactly, tokens on it are as on an f32 state, and so is what is loaded at the end.
#[test]
fn is_the_recurrence_until_the_state_is_rounded() {
    for d in [Device::Cpu, gpu()] {
        let shape = [DIMS.heads, DIMS.head_dim * DIMS.state];
        let (plain, back) = (d.alloc(DType::F32, shape).unwrap(), d.alloc(DType::F32, shape).unwrap());
        let stored = StoredState::new(&d, DIMS, 6, true).unwrap();
        let clock = d.upload_words(DType::U32, [2], &[0, 0]).unwrap();
        let start = d.upload_f32(shape, &values(1, DIMS.state_len())).unwrap();
        let mut plan = Plan::new(&d);
        kernels::ssm_store(&mut plan, &start, &clock, &stored, DIMS, StateRounding::Nearest).unwrap();
        kernels::ssm_load(&mut plan, &stored, &clock, &plain, DIMS).unwrap();
        plan.record().unwrap().run().unwrap();
        let per_head = values(2, 12);
        let vector = |i: usize| d.upload_f32([4], &per_head[4 * i..][..4]).unwrap();
        let (bias, a_log, skip) = (vector(0), vector(1), vector(2));
        let per_head = d.upload_f32([3, 4], &per_head).unwrap();
        for token in 0..6 {
            d.write(&clock, &[token, token]).unwrap();
            let xbc = d.upload_f32([1, DIMS.conv_dim()], &values(10 + token, DIMS.conv_dim())).unwrap();
            let raw = d.upload_f32([1, 4], &values(20 + token, 4)).unwrap();
            let raw = Columns::new("test", &raw, 0, 4).unwrap();
            let [y, want] = [(); 2].map(|()| d.alloc(DType::F32, [1, DIMS.d_inner()]).unwrap());
            let mut plan = Plan::new(&d);
            kernels::selective_state_update_int8(&mut plan, &xbc, &raw, &per_head, &stored, &clock, &y, DIMS, ALL)
                .unwrap();
            kernels::selective_state_update(&mut plan, &xbc, &raw, &bias, &a_log, &skip, &plain, &want, DIMS, ALL)
                .unwrap();
            plan.record().unwrap().run().unwrap();
            assert_close(&block_on(d.read_f32(&y)).unwrap(), &block_on(d.read_f32(&want)).unwrap(), 1e-10);
        }
        d.write(&clock, &[6, 6]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::ssm_load(&mut plan, &stored, &clock, &back, DIMS).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_close(&block_on(d.read_f32(&back)).unwrap(), &block_on(d.read_f32(&plain)).unwrap(), 1e-10);
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let stored = StoredState::new(&d, DIMS, 8, true).unwrap();
    let clock = d.alloc(DType::U32, [2]).unwrap();
    let raw = d.alloc(DType::F32, [1, 4]).unwrap();
    let raw = Columns::new("test", &raw, 0, 4).unwrap();
    let refused = |shapes: [[usize; 2]; 3], limit| {
        let [xbc, per_head, y] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
        let mut plan = Plan::new(&d);
        kernels::selective_state_update_int8(&mut plan, &xbc, &raw, &per_head, &stored, &clock, &y, DIMS, limit)
            .map_err(|e| e.to_string())
    };
    let (x, y) = ([1, 144], [1, 80]);
    refused([x, [3, 4], y], ALL).unwrap();
    for (shapes, arg) in [([[1, 143], [3, 4], y], "xbc"), ([x, [2, 4], y], "per_head"), ([x, [3, 4], [1, 79]], "y")] {
        let error = refused(shapes, ALL).unwrap_err();
        assert!(error.contains(&format!("`{arg}`")), "{error}");
    }
    assert!(refused([x, [3, 4], y], (2.0, 1.0)).unwrap_err().contains("dt_limit"));
}
