use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GramSums, Halves};

#[test]
fn matches_reference() {
    super::common::check_all("gram_halves");
}

/// The same sums as of the numbers before they were cut, of one matrix and of two.
#[test]
fn agrees_with_gram() {
    let device = super::common::gpu();
    let (tokens, n, m) = (50, 136, 40);
    let values = |n: usize, f: f32| (0..tokens * n).map(|i| (i as f32 * f).sin() * 3.0).collect::<Vec<f32>>();
    let x = device.upload_f32([tokens, n], &values(n, 0.37)).unwrap();
    let y = device.upload_f32([tokens, m], &values(m, 0.71)).unwrap();
    let cut = |n| Halves::new(&device, tokens, n).unwrap();
    let sums = || [GramSums::of_one(&device, n).unwrap(), GramSums::of_two(&device, n, m).unwrap()];
    let (x_cut, y_cut, plain, halves) = (cut(n), cut(m), sums(), sums());
    let mut plan = Plan::new(&device);
    kernels::gram(&mut plan, &x, &plain[0]).unwrap();
    kernels::cross_gram(&mut plan, &x, &y, &plain[1]).unwrap();
    kernels::split_columns(&mut plan, &x, &x_cut).unwrap();
    kernels::split_columns(&mut plan, &y, &y_cut).unwrap();
    kernels::gram_halves(&mut plan, &x_cut, &halves[0]).unwrap();
    kernels::cross_gram_halves(&mut plan, &x_cut, &y_cut, &halves[1]).unwrap();
    plan.record().unwrap().run().unwrap();
    for (plain, halves) in plain.iter().zip(&halves) {
        let [want, got] = [plain, halves].map(|sums| block_on(sums.read(&device)).unwrap());
        let error: f64 = want.iter().zip(&got).map(|(a, b)| (a - b).powi(2)).sum();
        let nmse = error / want.iter().map(|a| a * a).sum::<f64>();
        assert!(nmse < 1e-11, "{nmse:.2e}");
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let cut = |tokens, n| Halves::new(&d, tokens, n).unwrap();
    let refused = |a, b, sums: GramSums| match kernels::cross_gram_halves(&mut Plan::new(&d), &a, &b, &sums) {
        Ok(()) => "none".to_owned(),
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
        Err(e) => e.to_string(),
    };
    let two = |n, m| GramSums::of_two(&d, n, m).unwrap();
    assert_eq!(refused(cut(5, 8), cut(5, 16), two(8, 16)), "none");
    assert_eq!(refused(cut(5, 8), cut(4, 16), two(8, 16)), "b");
    assert_eq!(refused(cut(5, 8), cut(5, 16), two(8, 8)), "totals");
    let error = refused(cut(5, 8), cut(5, 8), GramSums::of_one(&d, 8).unwrap());
    assert!(error.contains("gram_halves: sums") && error.contains("of one matrix"), "{error}");
}
