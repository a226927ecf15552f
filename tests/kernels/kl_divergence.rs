use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::kl_divergence;
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("kl_divergence");
}

fn run(d: &Device, rows: usize, p: &[f32], q: &[f32]) -> Vec<f32> {
    let shape = [rows, p.len() / rows];
    let (p, q) = (d.upload_f32(shape, p).unwrap(), d.upload_f32(shape, q).unwrap());
    let out = d.alloc(DType::F32, [rows]).unwrap();
    let mut plan = Plan::new(d);
    kl_divergence(&mut plan, &p, &q, &out).unwrap();
    plan.record().unwrap().run().unwrap();
    block_on(d.read_f32(&out)).unwrap()
}

/// Of 1, 2, 5 and 1, 1, 1; of what is the same but for a sum; and of what only one thinks possible.
#[test]
fn by_hand() {
    let (low, [two, five]) = (f32::NEG_INFINITY, [2f32, 5.0].map(f32::ln));
    let p = [[0.0, two, five], [0.0, two, five], [low, two, two], [0.0, two, five]];
    let q = [[0.0; 3], [9.0, 9.0 + two, 9.0 + five], [low, 0.0, five], [low, two, five]];
    let (first, third) =
        ((3f64 / 8.0).ln() + 2.0 * (6f64 / 8.0).ln() + 5.0 * (15f64 / 8.0).ln(), 3f64.ln() + 0.6f64.ln());
    for d in [Device::Cpu, gpu()] {
        let got = run(&d, 4, p.as_flattened(), q.as_flattened());
        for (got, want) in got.iter().zip([first / 8.0, 0.0, third / 2.0]) {
            assert!((f64::from(*got) - want).abs() < 2e-7, "{}: {got} for {want}", d.name());
        }
        assert_eq!(got[3], f32::INFINITY, "{}", d.name());
    }
}

/// A difference that is nothing beside the logits is what its square says: half of the variance of ln q - ln p.
#[test]
fn small_divergences_keep_their_digits() {
    let vocab = 5000;
    let p: Vec<f32> = (0..vocab).map(|i| (i % 97) as f32 / 16.0).collect();
    let q: Vec<f32> = p.iter().enumerate().map(|(i, v)| v + if i % 2 == 0 { 0.0625 } else { 0.0 }).collect();
    let want = run(&Device::Cpu, 1, &p, &q)[0];
    let got = run(&gpu(), 1, &p, &q)[0];
    assert!((want - 0.000_488).abs() < 1e-5, "{want}");
    assert!((got / want - 1.0).abs() < 2e-5, "{got} for {want}");
}

#[test]
fn what_is_no_number_shows() {
    let good = vec![1.0; 2 * 300];
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
        let mut other = good.clone();
        other[299] = bad;
        for d in [Device::Cpu, gpu()] {
            for (p, q) in [(&good, &other), (&other, &good)] {
                let got = run(&d, 2, p, q);
                assert!(got[0].is_nan() && got[1] == 0.0, "{} {bad}: {got:?}", d.name());
            }
        }
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let error = |q: [usize; 2], out: usize| {
        let [p, q] = [[2, 8], q].map(|shape| d.alloc(DType::F32, shape).unwrap());
        kl_divergence(&mut Plan::new(&d), &p, &q, &d.alloc(DType::F32, [out]).unwrap()).unwrap_err()
    };
    assert!(matches!(error([2, 9], 2), Error::Shape { arg: "q", .. }));
    assert!(matches!(error([2, 8], 3), Error::Shape { arg: "out", .. }));
    let empty = d.alloc(DType::F32, [2, 0]).unwrap();
    let out = d.alloc(DType::F32, [2]).unwrap();
    let refused = kl_divergence(&mut Plan::new(&d), &empty, &empty, &out).unwrap_err().to_string();
    assert_eq!(refused, "kl_divergence: `p`: the vocabulary is empty");
}
