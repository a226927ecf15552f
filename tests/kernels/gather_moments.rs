use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, GramSums};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("gather_moments");
}

/// Of what `gram` added up: the means in another order, both halves.
#[test]
fn gathers_what_gram_added_up() {
    let (tokens, n) = (6, 5);
    let values: Vec<f32> = (0..tokens * n).map(|i| (i as f32 * 0.77).sin()).collect();
    let moment = |i: usize, j: usize| {
        (0..tokens).map(|t| f64::from(values[t * n + i]) * f64::from(values[t * n + j])).sum::<f64>() / tokens as f64
    };
    let order = [3u32, 0, 4, 1, 2];
    for d in [Device::Cpu, super::common::gpu()] {
        let x = d.upload_f32([tokens, n], &values).unwrap();
        let sums = GramSums::of_one(&d, n).unwrap();
        let places = d.upload_words(DType::U32, [1, n], &order).unwrap();
        let out = d.alloc(DType::F32, [n, n]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::gram(&mut plan, &x, &sums).unwrap();
        kernels::gather_moments(&mut plan, &sums, &places, [1.0 / tokens as f32, 0.25], &out).unwrap();
        plan.record().unwrap().run().unwrap();
        for (e, got) in block_on(d.read_f32(&out)).unwrap().iter().enumerate() {
            let (i, j) = (e / n, e % n);
            let want = moment(order[i] as usize, order[j] as usize) + if i == j { 0.25 } else { 0.0 };
            assert!((f64::from(*got) - want).abs() < 1e-6, "{i}, {j}: {got} for {want}");
        }
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |own: GramSums, order: [usize; 2], dtype, out: [usize; 2]| {
        let (order, out) = (d.alloc(dtype, order).unwrap(), d.alloc(DType::F32, out).unwrap());
        match kernels::gather_moments(&mut Plan::new(&d), &own, &order, [1.0, 0.0], &out) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string(),
        }
    };
    let one = || GramSums::of_one(&d, 4).unwrap();
    assert_eq!(refused(one(), [1, 4], DType::U32, [4, 4]), "none");
    assert_eq!(refused(one(), [1, 4], DType::U32, [1, 4]), "none");
    assert_eq!(refused(one(), [1, 5], DType::U32, [4, 4]), "order");
    assert_eq!(refused(one(), [1, 4], DType::F32, [4, 4]), "order");
    assert_eq!(refused(one(), [1, 4], DType::U32, [3, 4]), "out");
    let error = refused(GramSums::of_two(&d, 4, 4).unwrap(), [1, 4], DType::U32, [4, 4]);
    assert!(error.contains("gather_moments: sums"), "{error}");
}
