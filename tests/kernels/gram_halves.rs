use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GramSums, Halves};

#[test]
fn matches_reference() {
    super::common::check_all("gram_halves");
}

/// The same sums as of the numbers before they were rounded, but for what roundings by up to 2^-11 add up to.
#[test]
fn agrees_with_gram() {
    let device = super::common::gpu();
    let (tokens, n) = (50, 136);
    let values: Vec<f32> = (0..tokens * n).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let x = device.upload_f32([tokens, n], &values).unwrap();
    let halves = Halves::new(&device, tokens, n, 1).unwrap();
    let [plain, ours] = [(); 2].map(|()| GramSums::of_one(&device, n).unwrap());
    let mut plan = Plan::new(&device);
    kernels::gram(&mut plan, &x, &plain).unwrap();
    kernels::split_columns(&mut plan, &x, &halves).unwrap();
    kernels::gram_halves(&mut plan, &halves, &ours).unwrap();
    plan.record().unwrap().run().unwrap();
    let [want, got] = [plain, ours].map(|sums| block_on(sums.read(&device)).unwrap());
    let error: f64 = want.iter().zip(&got).map(|(a, b)| (a - b).powi(2)).sum();
    let nmse = error / want.iter().map(|a| a * a).sum::<f64>();
    assert!(nmse < 2e-8, "{nmse:.2e}");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |parts, sums: GramSums| {
        let x = Halves::new(&d, 5, 8, parts).unwrap();
        match kernels::gram_halves(&mut Plan::new(&d), &x, &sums) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string(),
        }
    };
    let one = |n| GramSums::of_one(&d, n).unwrap();
    assert_eq!(refused(1, one(8)), "none");
    assert_eq!(refused(2, one(8)), "x");
    assert_eq!(refused(1, one(16)), "totals");
    let error = refused(1, GramSums::of_two(&d, 8, 8).unwrap());
    assert!(error.contains("gram_halves: sums") && error.contains("of two matrices"), "{error}");
}
