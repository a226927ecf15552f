use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, MambaVectors, Mixer, SsdDims};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("mamba2_update");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };
const CHANNELS: usize = 80;

/// Shapes of conv_weight, conv_bias, per_head, conv_state, ssm_state, y and tickets.
type Shapes = [[usize; 2]; 7];
const RIGHT: Shapes = [[CHANNELS, 4], [1, CHANNELS], [3, 4], [CHANNELS, 4], [4, 96], [1, 32], [1, 2]];

/// The argument refused: of `width` columns of x | B | C | dt.
fn refused(width: usize, shapes: Shapes, dims: SsdDims, limit: (f32, f32)) -> String {
    let device = Device::Cpu;
    let input = device.alloc(DType::F32, [1, 90]).unwrap();
    let raw = Columns::new("test", &input, 0, width).unwrap();
    let [weight, bias, per_head, conv, ssm, y] =
        [0, 1, 2, 3, 4, 5].map(|i: usize| device.alloc(DType::F32, shapes[i]).unwrap());
    let tickets = device.alloc(DType::U32, shapes[6]).unwrap();
    let vectors = MambaVectors { conv_weight: &weight, conv_bias: &bias, per_head: &per_head };
    let mut plan = Plan::new(&device);
    let mixer = Mixer { raw: &raw, vectors, conv_state: &conv, ssm_state: &ssm, tickets: &tickets, y: &y };
    match kernels::mamba2_update(&mut plan, mixer, dims, limit) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. }) => arg.to_owned(),
        Err(Error::Argument { what, .. }) => what,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let (sizes, all) = (CHANNELS + 4, (0.0, f32::INFINITY));
    assert_eq!(refused(sizes, RIGHT, DIMS, all), "none");
    assert_eq!(refused(CHANNELS, RIGHT, DIMS, all), "raw");
    let names = ["conv_weight", "conv_bias", "per_head", "conv_state", "ssm_state", "y", "tickets"];
    for (i, name) in names.iter().enumerate() {
        let mut shapes = RIGHT;
        shapes[i][0] += 1;
        assert_eq!(refused(sizes, shapes, DIMS, all), *name);
    }
    assert_eq!(refused(sizes, RIGHT, DIMS, (2.0, 1.0)), "mamba2_update: `dt_limit`");
    assert_eq!(refused(sizes, RIGHT, SsdDims { groups: 0, ..DIMS }, all), "mamba2_update: `dims`");
}

/// What does not fit into a workgroup is for the two kernels it is made of.
#[test]
fn refuses_wide_states_and_long_convolutions() {
    assert!(kernels::fuses(SsdDims { state: 256, ..DIMS }, 4));
    assert!(!kernels::fuses(SsdDims { state: 260, ..DIMS }, 4));
    assert!(!kernels::fuses(DIMS, 5));
    let mut shapes = RIGHT;
    (shapes[0], shapes[3]) = ([CHANNELS, 5], [CHANNELS, 5]);
    assert_eq!(refused(CHANNELS + 4, shapes, DIMS, (0.0, 1.0)), "mamba2_update: `dims`");
}
