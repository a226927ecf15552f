use wgquant::Error;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, SsdDims, StoredState};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("ssm_load");
}

const DIMS: SsdDims = SsdDims { heads: 4, head_dim: 8, groups: 2, state: 12, chunk: 3 };

fn argument(error: Error) -> String {
    match error {
        Error::Shape { arg, .. } | Error::DType { arg, .. } => arg.to_owned(),
        Error::Argument { what, .. } => what,
        e => panic!("{e}"),
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let right = StoredState::new(&d, DIMS, 8, true).unwrap();
    assert_eq!(right.block, 4, "12 in runs of 4");
    let (clock, out) = (d.alloc(DType::U32, [2]).unwrap(), d.alloc(DType::F32, [4, 96]).unwrap());
    let load = |stored: &StoredState, clock: &DeviceTensor, out: &DeviceTensor, dims| {
        kernels::ssm_load(&mut Plan::new(&d), stored, clock, out, dims).map_err(argument)
    };
    load(&right, &clock, &out, DIMS).unwrap();
    assert_eq!(load(&right, &d.alloc(DType::U32, [1]).unwrap(), &out, DIMS).unwrap_err(), "clock");
    assert_eq!(load(&right, &clock, &d.alloc(DType::F32, [4, 95]).unwrap(), DIMS).unwrap_err(), "out");
    let stored = StoredState { block: 8, ..right.clone() };
    assert_eq!(load(&stored, &clock, &out, DIMS).unwrap_err(), "ssm_load: `block`");
    let stored = StoredState { codes: d.alloc(DType::I8, [31, 12]).unwrap(), ..right.clone() };
    assert_eq!(load(&stored, &clock, &out, DIMS).unwrap_err(), "codes");
    let stored = StoredState { errors: Some(d.alloc(DType::I4, [31, 12]).unwrap()), ..right.clone() };
    assert_eq!(load(&stored, &clock, &out, DIMS).unwrap_err(), "errors");
    let stored = StoredState { scales: d.alloc(DType::F32, [31]).unwrap(), ..right };
    assert_eq!(load(&stored, &clock, &out, DIMS).unwrap_err(), "scales");
    let window = |n| argument(StoredState::new(&d, DIMS, n, true).unwrap_err());
    assert_eq!([window(0), window(65)], ["ssm_load: `window`"; 2]);
    let wide = SsdDims { state: 260, ..DIMS };
    assert_eq!(argument(StoredState::new(&d, wide, 8, true).unwrap_err()), "ssm_load: `state`");
}
