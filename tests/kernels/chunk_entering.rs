use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("chunk_entering");
}

/// The text of the form on matrix units, with their products in plain code.
#[test]
fn emulated_coop_matches_reference() {
    super::common::check_variant("chunk_entering", "coop_emulated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused for these shapes of xbc, dt, da_cumsum, ssm_state and entering, xbc and entering of these types.
fn refused(shapes: [[usize; 2]; 5], [x, e]: [DType; 2], dims: SsdDims) -> String {
    let d = Device::Cpu;
    let types = [x, DType::F32, DType::F32, DType::F32, e];
    let tensors: Vec<_> = shapes.into_iter().zip(types).map(|(s, t)| d.alloc(t, s).unwrap()).collect();
    let [xbc, dt, sums, state, entering] = &tensors[..] else { unreachable!("five") };
    match kernels::chunk_entering(&mut Plan::new(&d), xbc, dt, sums, state, entering, dims) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (x, m, s, e) = ([5, 80], [4, 5], [4, 96], [2, 384]);
    let halves = [DType::F16; 2];
    assert_eq!(refused([x, m, m, s, e], halves, DIMS), "none");
    assert_eq!(refused([[5, 79], m, m, s, e], halves, DIMS), "xbc");
    assert_eq!(refused([x, [4, 4], m, s, e], halves, DIMS), "dt");
    assert_eq!(refused([x, m, [5, 4], s, e], halves, DIMS), "da_cumsum");
    assert_eq!(refused([x, m, m, [4, 95], e], halves, DIMS), "ssm_state");
    assert_eq!(refused([x, m, m, s, [1, 384]], halves, DIMS), "entering");
    assert_eq!(refused([x, m, m, s, e], [DType::F32, DType::F16], DIMS), "xbc");
    assert_eq!(refused([x, m, m, s, e], [DType::F16, DType::F32], DIMS), "entering");
    assert_eq!(refused([x, m, m, s, e], halves, SsdDims { state: 10, ..DIMS }), "chunk_entering: `dims`");
}
