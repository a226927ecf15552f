use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("state_passing");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

/// The argument refused for these shapes of states, da_cumsum, ssm_state and entering.
fn refused(shapes: [[usize; 2]; 4], dims: SsdDims) -> String {
    let d = Device::Cpu;
    let [states, sums, ssm_state, entering] = shapes.map(|s| d.alloc(DType::F32, s).unwrap());
    match kernels::state_passing(&mut Plan::new(&d), &states, &sums, &ssm_state, &entering, dims, 5) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (c, m, s) = ([2, 384], [4, 5], [4, 96]);
    assert_eq!(refused([c, m, s, c], DIMS), "none");
    assert_eq!(refused([[1, 384], m, s, c], DIMS), "states");
    assert_eq!(refused([c, [4, 6], s, c], DIMS), "da_cumsum");
    assert_eq!(refused([c, m, [4, 95], c], DIMS), "ssm_state");
    assert_eq!(refused([c, m, s, [3, 384]], DIMS), "entering");
    assert_eq!(refused([c, m, s, c], SsdDims { heads: 0, ..DIMS }), "state_passing: `dims`");
}
