use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

use super::common::gpu;

#[test]
fn matches_reference() {
    super::common::check_all("argmax_merge");
}

#[test]
fn takes_only_candidates_and_the_first_of_equals() {
    for d in [Device::Cpu, gpu()] {
        let logits = d.upload_f32([2, 4], &[9.0, 1.0, 2.0, 2.0, -1.0, -0.0, 0.0, 5.0]).unwrap();
        let candidates = d.upload_words(DType::U32, [2, 3], &[1, 2, 3, 0, 1, 2]).unwrap();
        let out = d.alloc(DType::U32, [2]).unwrap();
        let mut plan = Plan::new(&d);
        kernels::argmax_merge(&mut plan, &logits, &candidates, &out).unwrap();
        plan.record().unwrap().run().unwrap();
        assert_eq!(block_on(d.read(&out)).unwrap(), [2, 1], "{}", d.name());
    }
}

#[test]
fn rejects_no_candidates() {
    let d = Device::Cpu;
    let logits = d.alloc(DType::F32, [2, 4]).unwrap();
    let merge = |candidates: [usize; 2], out: usize| {
        let (candidates, out) = (d.alloc(DType::U32, candidates).unwrap(), d.alloc(DType::U32, [out]).unwrap());
        kernels::argmax_merge(&mut Plan::new(&d), &logits, &candidates, &out).unwrap_err()
    };
    assert!(matches!(merge([3, 2], 2), Error::Shape { arg: "candidates", .. }));
    assert!(matches!(merge([2, 2], 3), Error::Shape { arg: "out", .. }));
    assert!(merge([2, 0], 2).to_string().contains("0 candidates of 4 logits"));
}
