use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("chunk_state");
}

/// The text of the form on matrix units, with their products in plain code.
#[test]
fn emulated_coop_matches_reference() {
    super::common::check_variant("chunk_state", "coop_emulated");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused for these shapes of xbc, dt, da_cumsum and states.
fn refused(shapes: [[usize; 2]; 4], dims: SsdDims) -> String {
    let d = Device::Cpu;
    let [xbc, dt, sums, states] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    match kernels::chunk_state(&mut Plan::new(&d), &xbc, &dt, &sums, &states, dims) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (x, m, s) = ([5, 80], [4, 5], [2, 384]);
    assert_eq!(refused([x, m, m, s], DIMS), "none");
    assert_eq!(refused([[5, 79], m, m, s], DIMS), "xbc");
    assert_eq!(refused([x, [4, 4], m, s], DIMS), "dt");
    assert_eq!(refused([x, m, [5, 4], s], DIMS), "da_cumsum");
    assert_eq!(refused([x, m, m, [1, 384]], DIMS), "states");
    assert_eq!(refused([x, m, m, s], SsdDims { state: 10, ..DIMS }), "chunk_state: `dims`");
}
