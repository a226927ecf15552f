use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue, Halves};
use wgquant::tensor::{DType, Tensor};

#[test]
fn matches_reference() {
    super::common::check_all("split_rows");
}

/// The first bits alone are all there is of bf16.
#[test]
fn bf16_needs_no_rest() {
    let (rows, k) = (16, 21);
    let values: Vec<f32> = (0..rows * k).map(|i| (i as f32 * 0.37).sin() * 10f32.powi(i as i32 % 5 - 2)).collect();
    let weight = Tensor::from_f32_as(DType::BF16, [rows, k], &values).unwrap();
    let one: Vec<f32> = (0..24 * k).map(|e| if e % k == e / k { 1.0 } else { 0.0 }).collect();
    for d in [Device::Cpu, super::common::gpu()] {
        let (w, x) = (d.upload(&weight).unwrap(), d.upload_f32([24, k], &one).unwrap());
        let halves = Halves::new(&d, k, rows, 1).unwrap();
        let ones = Halves::new(&d, k, 32, 2).unwrap().rows(24).unwrap();
        let out = d.alloc(DType::F32, [24, rows]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::split_rows(&mut plan, &w, &halves).unwrap();
        kernels::split_rows(&mut plan, &x, &ones).unwrap();
        kernels::matmul_halves(&mut plan, &ones, &halves, &out, Epilogue::Store).unwrap();
        plan.record().unwrap().run().unwrap();
        let got = block_on(d.read_f32(&out)).unwrap();
        let want = weight.to_f32().unwrap();
        assert!((0..rows * k).all(|e| got[e % k * rows + e / k] == want[e]), "{}", d.name());
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |x: [usize; 2], dtype, parts| {
        let (x, halves) = (d.alloc(dtype, x).unwrap(), Halves::new(&d, 5, 16, parts).unwrap());
        match kernels::split_rows(&mut Plan::new(&d), &x, &halves) {
            Ok(()) => "none",
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(refused([16, 5], DType::F32, 2), "none");
    assert_eq!(refused([16, 5], DType::BF16, 1), "none");
    assert_eq!(refused([16, 5], DType::F32, 1), "halves", "the rest of f32 has no room");
    assert_eq!(refused([8, 5], DType::F32, 2), "halves");
    assert_eq!(refused([16, 5], DType::I8, 2), "x");
    let error = Halves::new(&d, 5, 16, 2).unwrap().rows(12).err().unwrap().to_string();
    assert!(error.contains("12 rows"), "{error}");
}
