use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("argmax");
}

#[test]
fn finds_the_first_of_equals() {
    let low = f32::NEG_INFINITY;
    let rows = [[1.0, 3.0, 3.0, -1.0], [low, low, low, low], [-5.0, -3.0, -4.0, low], [-0.0, 0.0, -1.0, 0.0]];
    for d in [Device::Cpu, gpu()] {
        let logits = d.upload_f32([4, 4], rows.as_flattened()).unwrap();
        let out = d.alloc(DType::U32, [4]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::argmax(&mut plan, &logits, &out).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_eq!(block_on(d.read(&out)).unwrap(), [1, 0, 1, 0], "{}", d.name());
    }
}

fn error(logits: [usize; 2], out: (DType, usize)) -> Error {
    let d = Device::Cpu;
    let logits = d.alloc(DType::F32, logits).unwrap();
    let out = d.alloc(out.0, [out.1]).unwrap();
    kernels::argmax(&mut Plan::new(&d), &logits, &out).unwrap_err()
}

#[test]
fn rejects_wrong_outputs() {
    assert!(matches!(error([2, 8], (DType::U32, 3)), Error::Shape { arg: "out", .. }));
    assert!(matches!(error([2, 8], (DType::F32, 2)), Error::DType { arg: "out", .. }));
}

#[test]
fn rejects_empty_vocabulary() {
    assert_eq!(error([2, 0], (DType::U32, 2)).to_string(), "argmax: `logits`: the vocabulary is empty");
}
