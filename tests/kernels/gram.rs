use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
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
    let sums = device.upload_f32([2 * n, n], &vec![0.0; 2 * n * n]).unwrap();
    let mut plan = Plan::new(&device);
    kernels::gram(&mut plan, &x, &x, &sums).unwrap();
    let recording = plan.record().unwrap();
    let launches = 3000;
    (0..launches).for_each(|_| recording.run().unwrap());
    let got = block_on(device.read_f32(&sums)).unwrap();
    let (mut plain, mut compensated) = (0f64, 0f64);
    for i in 0..n {
        for j in 0..n {
            // One launch's sum is rounded as f32 sums are; the launches are then added exactly.
            let one = (0..tokens).fold(0f32, |s, t| s + values[t * n + i] * values[t * n + j]);
            let exact = f64::from(one) * f64::from(launches);
            let (total, lost) = (f64::from(got[i * n + j]), f64::from(got[(n + i) * n + j]));
            plain = plain.max((total / exact - 1.0).abs());
            compensated = compensated.max(((total + lost) / exact - 1.0).abs());
        }
    }
    // A fused multiply-add within a launch may move its sum by an ulp or two.
    assert!(compensated < 3e-7, "relative error {compensated:.2e}");
    assert!(plain > 3.0 * compensated, "totals alone: {plain:.2e}, compensated: {compensated:.2e}");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let tensor = |shape: [usize; 2]| d.alloc(DType::F32, shape).unwrap();
    let refused = |a, b, sums| match kernels::gram(&mut Plan::new(&d), &tensor(a), &tensor(b), &tensor(sums)) {
        Ok(()) => "none",
        Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
        Err(e) => panic!("{e}"),
    };
    assert_eq!(refused([5, 3], [5, 4], [6, 4]), "none");
    assert_eq!(refused([5, 3], [4, 4], [6, 4]), "b");
    assert_eq!(refused([5, 3], [5, 4], [3, 4]), "sums");
}
