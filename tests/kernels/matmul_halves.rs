use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue, GramSums, Halves};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matmul_halves");
}

/// The same sums as of the numbers before they were rounded, but for what roundings by up to 2^-11 add up to.
#[test]
fn second_moments_agree_with_gram() {
    let device = super::common::gpu();
    let (tokens, n) = (50, 136);
    let values: Vec<f32> = (0..tokens * n).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let x = device.upload_f32([tokens, n], &values).unwrap();
    let halves = Halves::new(&device, tokens, n, 1).unwrap();
    let (plain, ours) = (GramSums::of_one(&device, n).unwrap(), GramSums::of_halves(&device, n).unwrap());
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

/// Other sums have room for what totals lose, or are read as if the lower half were there.
#[test]
fn second_moments_have_sums_of_their_own() {
    let d = Device::Cpu;
    let refused = |result: wgquant::Result<()>| result.err().map_or("none".to_owned(), |e| e.to_string());
    let (x, halves) = (d.alloc(DType::F32, [5, 8]).unwrap(), Halves::new(&d, 5, 8, 1).unwrap());
    let (two, ours) = (GramSums::of_two(&d, 8, 8).unwrap(), GramSums::of_halves(&d, 8).unwrap());
    assert_eq!(refused(kernels::gram_halves(&mut Plan::new(&d), &halves, &ours)), "none");
    let error = refused(kernels::gram_halves(&mut Plan::new(&d), &halves, &two));
    assert!(error.contains("gram_halves: sums") && error.contains("of two matrices"), "{error}");
    let error = refused(kernels::gram(&mut Plan::new(&d), &x, &ours));
    assert!(error.contains("gram: sums") && error.contains("totals alone"), "{error}");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let of = |[x_parts, parts]: [usize; 2], k: usize, width: usize, first: usize| {
        let (x, weight) = (Halves::new(&d, 5, 16, x_parts).unwrap(), Halves::new(&d, k, 8, parts).unwrap());
        let out = d.alloc(DType::F32, [16, width]).unwrap();
        let columns = Columns::new("test", &out, first, 8).unwrap();
        match kernels::matmul_halves(&mut Plan::new(&d), &x, &weight, columns, Epilogue::Store) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string(),
        }
    };
    let refused = |k, width, first| of([2, 1], k, width, first);
    assert_eq!(of([2, 2], 5, 8, 0), "none");
    assert_eq!(of([1, 1], 5, 8, 0), "none");
    assert!(of([1, 2], 5, 8, 0).contains("one f16 a number"), "{}", of([1, 2], 5, 8, 0));
    assert_eq!(refused(5, 8, 0), "none");
    assert_eq!(refused(5, 20, 12), "none");
    assert_eq!(refused(6, 8, 0), "weight");
    assert!(refused(5, 20, 10).contains("not of whole 16 bytes"), "{}", refused(5, 20, 10));
    assert!(refused(5, 18, 8).contains("not of whole 16 bytes"), "{}", refused(5, 18, 8));
}
