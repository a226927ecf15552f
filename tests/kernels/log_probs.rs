use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{LogProbOutputs, log_probs};
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("log_probs");
}

/// Values and ids of rows.
fn run(d: &Device, logits: &[f32], targets: &[u32], most: usize) -> (Vec<f32>, Vec<u32>) {
    let rows = targets.len();
    let logits = d.upload_f32([rows, logits.len() / rows], logits).unwrap();
    let targets = d.upload_words(DType::U32, [rows], targets).unwrap();
    let values = d.alloc(DType::F32, [rows, 1 + most]).unwrap();
    let ids = d.alloc(DType::U32, [rows, most]).unwrap();
    let mut plan = Plan::new(d);
    log_probs(&mut plan, &logits, &targets, &LogProbOutputs { values: &values, ids: &ids }).unwrap();
    plan.record().unwrap().run().unwrap();
    (block_on(d.read_f32(&values)).unwrap(), block_on(d.read(&ids)).unwrap())
}

#[test]
fn by_hand() {
    let (low, [two, five]) = (f32::NEG_INFINITY, [2f32, 5.0].map(f32::ln));
    // Of 1, 5, 2, 5, 1; and where all but one have no chance.
    let rows = [[0.0, five, two, five, -0.0], [low, low, 88.0, low, low]];
    for d in [Device::Cpu, gpu()] {
        let (values, ids) = run(&d, rows.as_flattened(), &[2, 2], 5);
        assert_eq!(ids[..5], [1, 3, 2, 0, 4], "{}", d.name());
        assert_eq!(ids[5], 2);
        let want = [2.0, 5.0, 5.0, 2.0, 1.0, 1.0].map(|p: f32| (p / 14.0).ln());
        for (got, want) in values.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{}: {values:?}", d.name());
        }
        assert_eq!(values[6..8], [0.0, 0.0]);
        assert!(values[8..].iter().all(|v| *v == low), "{values:?}");
    }
}

/// A row that is no numbers says so wherever it is asked, and the rows beside it do not.
#[test]
fn what_is_no_number_shows() {
    let mut logits = vec![1.0; 3 * 700];
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
        logits[700 + 650] = bad;
        for d in [Device::Cpu, gpu()] {
            let (values, _) = run(&d, &logits, &[1, 2, 3], 1);
            let numbers: Vec<bool> = values.iter().map(|v| v.is_finite()).collect();
            assert_eq!(numbers, [true, true, false, false, true, true], "{} {bad}: {values:?}", d.name());
        }
    }
}

fn error(targets: (DType, usize), values: [usize; 2], ids: [usize; 2]) -> Error {
    let d = Device::Cpu;
    let logits = d.alloc(DType::F32, [2, 8]).unwrap();
    let targets = d.alloc(targets.0, [targets.1]).unwrap();
    let (values, ids) = (d.alloc(DType::F32, values).unwrap(), d.alloc(DType::U32, ids).unwrap());
    log_probs(&mut Plan::new(&d), &logits, &targets, &LogProbOutputs { values: &values, ids: &ids }).unwrap_err()
}

#[test]
fn rejects_wrong_arguments() {
    assert!(matches!(error((DType::U32, 3), [2, 2], [2, 1]), Error::Shape { arg: "targets", .. }));
    assert!(matches!(error((DType::F32, 2), [2, 2], [2, 1]), Error::DType { arg: "targets", .. }));
    assert!(matches!(error((DType::U32, 2), [2, 1], [2, 1]), Error::Shape { arg: "values", .. }));
    assert!(matches!(error((DType::U32, 2), [2, 2], [3, 1]), Error::Shape { arg: "ids", .. }));
    let none = error((DType::U32, 2), [2, 1], [2, 0]).to_string();
    assert_eq!(none, "log_probs: `ids`: 0 of a vocabulary of 8, expected 1 or more");
    assert!(error((DType::U32, 2), [2, 10], [2, 9]).to_string().contains("9 of a vocabulary of 8"));
}
