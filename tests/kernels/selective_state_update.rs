use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("selective_state_update");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused: shape of dt_raw, then those of xbc, dt_bias, a_log, d, ssm_state and y.
fn refused(raw: [usize; 2], shapes: [[usize; 2]; 6], dims: SsdDims, limit: (f32, f32)) -> String {
    let device = Device::Cpu;
    let raw = device.alloc(DType::F32, raw).unwrap();
    let raw = Columns::new("test", &raw, 0, raw.shape.cols()).unwrap();
    let [xbc, bias, a_log, d, state, y] = shapes.map(|s| device.alloc(DType::F32, s).unwrap());
    let mut plan = Plan::new(&device);
    match kernels::selective_state_update(&mut plan, &xbc, &raw, &bias, &a_log, &d, &state, &y, dims, limit) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (x, v, s, y, all) = ([1, 80], [1, 4], [4, 96], [1, 32], (0.0, f32::INFINITY));
    assert_eq!(refused(v, [x, v, v, v, s, y], DIMS, all), "none");
    assert_eq!(refused([2, 4], [x, v, v, v, s, y], DIMS, all), "dt_raw");
    assert_eq!(refused([1, 5], [x, v, v, v, s, y], DIMS, all), "dt_raw");
    assert_eq!(refused(v, [[2, 80], v, v, v, s, y], DIMS, all), "xbc");
    assert_eq!(refused(v, [x, [1, 5], v, v, s, y], DIMS, all), "dt_bias");
    assert_eq!(refused(v, [x, v, [1, 3], v, s, y], DIMS, all), "a_log");
    assert_eq!(refused(v, [x, v, v, [1, 8], s, y], DIMS, all), "d");
    assert_eq!(refused(v, [x, v, v, v, [4, 95], y], DIMS, all), "ssm_state");
    assert_eq!(refused(v, [x, v, v, v, s, [1, 80]], DIMS, all), "y");
    assert_eq!(refused(v, [x, v, v, v, s, y], DIMS, (2.0, 1.0)), "selective_state_update: `dt_limit`");
    assert_eq!(refused(v, [x, v, v, v, s, y], SsdDims { groups: 0, ..DIMS }, all), "selective_state_update: `dims`");
}
