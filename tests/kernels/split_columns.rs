use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Epilogue, Halves};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("split_columns");
}

/// What products are made from is the number but for its last three bits, however large or small its column is; of one part it
/// has the bits of f16.
#[test]
fn two_halves_are_the_number() {
    as_they_are(2, 2f64.powi(-21));
    as_they_are(1, 2f64.powi(-11));
}

fn as_they_are(parts: usize, relative: f64) {
    let (tokens, n) = (40, 16);
    let size = |c: usize| 10f32.powi(3 * (c as i32 - 8));
    let values: Vec<f32> = (0..tokens * n).map(|i| (i as f32 * 0.37).sin() * size(i % n)).collect();
    for d in [Device::Cpu, super::common::gpu()] {
        let x = d.upload_f32([tokens, n], &values).unwrap();
        let halves = Halves::new(&d, tokens + 3, n, parts).unwrap().of(tokens).unwrap();
        // Times the identity, the sums are the numbers.
        let one: Vec<f32> = (0..tokens * tokens).map(|e| if e % (tokens + 1) == 0 { 1.0 } else { 0.0 }).collect();
        let one = d.upload_f32([tokens, tokens], &one).unwrap();
        let ones = Halves::new(&d, tokens, tokens, parts).unwrap();
        let out = d.alloc(DType::F32, [tokens, n]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::split_columns(&mut plan, &x, &halves).unwrap();
        kernels::split_columns(&mut plan, &one, &ones).unwrap();
        kernels::matmul_halves(&mut plan, &ones, &halves, &out, Epilogue::Store).unwrap();
        plan.record().unwrap().run().unwrap();
        for (i, (got, want)) in block_on(d.read_f32(&out)).unwrap().iter().zip(&values).enumerate() {
            let most = relative * f64::from(want.abs()) + 2f64.powi(-38) * f64::from(size(i % n));
            assert!((f64::from(*got) - f64::from(*want)).abs() <= most, "{i}: {got:e} for {want:e}");
        }
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let refused = |x: [usize; 2], dtype| {
        let (x, halves) = (d.alloc(dtype, x).unwrap(), Halves::new(&d, 5, 16, 2).unwrap());
        match kernels::split_columns(&mut Plan::new(&d), &x, &halves) {
            Ok(()) => "none",
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg,
            Err(e) => panic!("{e}"),
        }
    };
    assert_eq!(refused([5, 16], DType::F32), "none");
    assert_eq!(refused([4, 16], DType::F32), "halves");
    assert_eq!(refused([5, 16], DType::I8), "x");
    let error = Halves::new(&d, 5, 12, 2).err().unwrap().to_string();
    assert!(error.contains("12 columns"), "{error}");
    assert!(Halves::new(&d, usize::MAX, 8, 2).err().unwrap().to_string().contains("beyond any memory"));
    assert!(!Halves::suit(&d, 16), "a CPU has no matrix units");
}
