use pollster::block_on;
use wgquant::gpu::{Device, Plan};
use wgquant::hadamard::transform;
use wgquant::kernels::{self, HadamardBuffers};
use wgquant::tensor::DType;
use wgquant::{Error, Result};

use super::common::{assert_close, golden, gpu};

#[test]
fn matches_reference() {
    super::common::check_all("hadamard");
}

/// Subgroups of 32 threads, on adapters that have others.
#[test]
fn emulated_warps_match_reference() {
    super::common::check_variant("hadamard", "warps_emulated");
    super::common::check_variant("hadamard", "warps_of_halves_emulated");
}

fn run(device: &Device, shape: [usize; 2], x: &[f32], block: usize) -> Result<Vec<f32>> {
    let x = device.upload_f32(shape, x)?;
    let out = device.alloc(DType::F32, shape)?;
    let mut plan = Plan::new(device);
    kernels::hadamard(&mut plan, &x, &out, block)?;
    plan.record()?.run()?;
    block_on(device.read_f32(&out))
}

#[test]
fn matches_golden() {
    let golden = golden();
    let whole = [8, 32, 64, 128, 256, 512, 1024].map(|n| (format!("hadamard.{n}"), n, n));
    let blocks = [(168, 8), (672, 32), (1344, 64)].map(|(n, b)| (format!("hadamard_block.{n}x{b}"), n, b));
    for d in [Device::Cpu, gpu()] {
        for (name, cols, block) in whole.iter().chain(&blocks) {
            let x = golden.f32(&format!("{name}.x"));
            let y = run(&d, [x.len() / cols, *cols], &x, *block).unwrap();
            assert_close(&y, &golden.f32(&format!("{name}.y")), 1e-12);
        }
    }
}

/// What a rotation of weights on the host does is what the kernels do to activations.
#[test]
fn matches_the_host_transform() {
    for block in [1, 8, 12, 64, 336, 1344, 2688, 1856, 15680, 32768] {
        let x: Vec<f32> = (0..2 * block).map(|i| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0).collect();
        let mut want: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        transform(block, &mut want).unwrap();
        let want: Vec<f32> = want.into_iter().map(|v| v as f32).collect();
        assert_close(&run(&Device::Cpu, [1, 2 * block], &x, block).unwrap(), &want, 1e-12);
    }
}

#[test]
fn shared_buffers_serve_fewer_rows_and_no_more() {
    let d = Device::Cpu;
    let x: Vec<f32> = (0..2 * 1344).map(|i| (i * 7919 % 1009) as f32 / 504.5 - 1.0).collect();
    let buffers = HadamardBuffers::new(&d, 5, 1344, 1344).unwrap();
    let (input, out) = (d.upload_f32([2, 1344], &x).unwrap(), d.alloc(DType::F32, [2, 1344]).unwrap());
    let mut plan = Plan::new(&d);
    kernels::hadamard_with(&mut plan, &input, &out, &buffers).unwrap();
    plan.record().unwrap().run().unwrap();
    assert_eq!(block_on(d.read_f32(&out)).unwrap(), run(&d, [2, 1344], &x, 1344).unwrap());

    let more = d.alloc(DType::F32, [6, 1344]).unwrap();
    let out = d.alloc(DType::F32, [6, 1344]).unwrap();
    let error = kernels::hadamard_with(&mut Plan::new(&d), &more, &out, &buffers).unwrap_err();
    assert!(matches!(error, Error::Argument { .. }), "{error}");
}

#[test]
fn rejects_block_without_construction() {
    let error = run(&Device::Cpu, [1, 184], &[1.0; 184], 92).unwrap_err();
    assert!(error.to_string().starts_with("hadamard: `block` 92: there is no construction"), "{error}");
    assert!(run(&Device::Cpu, [1, 184], &[1.0; 184], 0).is_err());
}

#[test]
fn rejects_block_that_does_not_divide() {
    let error = run(&Device::Cpu, [1, 184], &[1.0; 184], 16).unwrap_err();
    assert_eq!(error.to_string(), "hadamard: `block` 16: it does not divide 184");
}

#[test]
fn rejects_wrong_outputs() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [2, 8]).unwrap();
    let error = |out| kernels::hadamard(&mut Plan::new(&d), &x, &out, 8).unwrap_err();
    let shape = error(d.alloc(DType::F32, [2, 7]).unwrap());
    assert!(matches!(shape, Error::Shape { arg: "out", .. }), "{shape}");
    let dtype = error(d.alloc(DType::F16, [2, 8]).unwrap());
    assert!(matches!(dtype, Error::DType { arg: "out", .. }), "{dtype}");
}
