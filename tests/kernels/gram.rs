use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GramSums};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("gram");
}

/// Thousands of launches lose nothing: totals and what they lost add up to the exact sum, totals alone do not.
#[test]
fn totals_are_compensated() {
    let device = super::common::gpu();
    let (tokens, n) = (4, 8);
    let values: Vec<f32> = (0..tokens * n).map(|i| 0.3 + (i as f32 * 0.37).sin() * 0.1).collect();
    let x = device.upload_f32([tokens, n], &values).unwrap();
    let sums = GramSums::of_one(&device, n).unwrap();
    let mut plan = Plan::new(&device);
    kernels::gram(&mut plan, &x, &sums).unwrap();
    let recording = plan.record().unwrap();
    let launches = 3000;
    (0..launches).for_each(|_| recording.run().unwrap());
    let (got, totals) = (block_on(sums.read(&device)).unwrap(), block_on(device.read_f32(sums.totals())).unwrap());
    let (mut plain, mut compensated) = (0f64, 0f64);
    for i in 0..n {
        for j in 0..n {
            // One launch's sum is rounded as f32 sums are; the launches are then added exactly.
            let one = (0..tokens).fold(0f32, |s, t| s + values[t * n + i] * values[t * n + j]);
            let exact = f64::from(one) * f64::from(launches);
            // Below the diagonal there is only what is above it.
            let total = f64::from(totals[i.min(j) * n + i.max(j)]);
            plain = plain.max((total / exact - 1.0).abs());
            compensated = compensated.max((got[i * n + j] / exact - 1.0).abs());
        }
    }
    // A fused multiply-add within a launch may move its sum by an ulp or two.
    assert!(compensated < 3e-7, "relative error {compensated:.2e}");
    assert!(plain > 3.0 * compensated, "totals alone: {plain:.2e}, compensated: {compensated:.2e}");
}

/// Of one matrix with itself the half that is not computed is the other's mirror image.
#[test]
fn one_matrix_is_two_alike() {
    let device = super::common::gpu();
    let (tokens, n) = (5, 131);
    let values: Vec<f32> = (0..tokens * n).map(|i| (i as f32 * 0.77).sin()).collect();
    let x = device.upload_f32([tokens, n], &values).unwrap();
    let (one, two) = (GramSums::of_one(&device, n).unwrap(), GramSums::of_two(&device, n, n).unwrap());
    let mut plan = Plan::new(&device);
    kernels::gram(&mut plan, &x, &one).unwrap();
    kernels::cross_gram(&mut plan, &x, &x, &two).unwrap();
    plan.record().unwrap().run().unwrap();
    let read = |sums: &GramSums| block_on(sums.read(&device)).unwrap();
    assert_eq!(read(&one), read(&two));
    one.reset(&device).unwrap();
    assert!(read(&one).iter().all(|sum| *sum == 0.0));
}

/// They would be read as if what is below the diagonal were what is above.
#[test]
fn sums_of_one_matrix_take_no_products_of_two() {
    let d = Device::Cpu;
    let x = d.alloc(DType::F32, [5, 8]).unwrap();
    let sums = GramSums::of_one(&d, 8).unwrap();
    let error = kernels::cross_gram(&mut Plan::new(&d), &x, &x, &sums).unwrap_err().to_string();
    assert!(error.contains("gram: sums") && error.contains("of one matrix"), "{error}");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let tensor = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let refused = |a, b, [n, m]: [usize; 2]| {
        let sums = GramSums::of_two(&d, n, m).unwrap();
        match kernels::cross_gram(&mut Plan::new(&d), &tensor(a), &tensor(b), &sums) {
            Ok(()) => "none",
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(refused([5, 3], [5, 4], [3, 4]), "none");
    assert_eq!(refused([5, 3], [4, 4], [3, 4]), "b");
    assert_eq!(refused([5, 3], [5, 4], [6, 4]), "totals");
}
