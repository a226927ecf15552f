use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, DeviceTensor, Plan};
use wgquant::kernels::{self, Columns};
use wgquant::tensor::DType;

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("rms_norm_gated");
}

#[test]
fn matches_golden() {
    let golden = golden();
    let shape = [5, 64];
    for d in [Device::Cpu, gpu()] {
        let upload = |name: &str| d.upload_f32(shape, &golden.f32(name)).unwrap();
        let (y, z) = (upload("gated_rmsnorm.y"), upload("gated_rmsnorm.gate"));
        let weight = d.upload_f32([64], &golden.f32("gated_rmsnorm.weight")).unwrap();
        let out = d.alloc(DType::F32, shape).unwrap();
        let gate = Columns::new("test", &z, 0, 64).unwrap();
        let mut plan = Plan::new(&d);
        kernels::rms_norm_gated(&mut plan, &y, &gate, &weight, &out, 4, 1e-5).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_close(&block_on(d.read_f32(&out)).unwrap(), &golden.f32("gated_rmsnorm.out"), 1e-12);
    }
}

/// The error for tensors of these sizes; all right would be gate columns 3..11 of 20, weight 8, output `[2, 8]`, 4 groups.
fn error(columns: (usize, usize), weight: usize, out: [usize; 2], groups: usize) -> Error {
    let d = Device::Cpu;
    let alloc = |shape: [usize; 2]| -> DeviceTensor { d.alloc(DType::F32, shape).unwrap() };
    let (y, z, out) = (alloc([2, 8]), alloc([2, 20]), alloc(out));
    let weight = d.alloc(DType::F32, [weight]).unwrap();
    let mut plan = Plan::new(&d);
    Columns::new("rms_norm_gated", &z, columns.0, columns.1)
        .and_then(|gate| kernels::rms_norm_gated(&mut plan, &y, &gate, &weight, &out, groups, 1e-5))
        .unwrap_err()
}

#[test]
fn rejects_columns_beyond_the_tensor() {
    let error = error((13, 8), 8, [2, 8], 4);
    assert!(matches!(error, Error::Argument { .. }), "{error}");
    assert_eq!(error.to_string(), "rms_norm_gated: `columns`: 8 columns from column 13 of a tensor [2, 20]");
}

#[test]
fn rejects_gate_of_another_width() {
    let error = error((3, 7), 8, [2, 8], 4);
    assert_eq!(error.to_string(), "rms_norm_gated: `gate`: 7 columns for 8 of `y`");
}

#[test]
fn rejects_groups_that_do_not_divide() {
    assert_eq!(error((3, 8), 8, [2, 8], 3).to_string(), "rms_norm_gated: `groups`: 3 does not divide 8 columns");
    assert!(matches!(error((3, 8), 8, [2, 8], 0), Error::Argument { .. }));
}

#[test]
fn rejects_wrong_shapes() {
    assert!(matches!(error((3, 8), 7, [2, 8], 4), Error::Shape { arg: "weight", .. }));
    assert!(matches!(error((3, 8), 8, [3, 8], 4), Error::Shape { arg: "out", .. }));
}
