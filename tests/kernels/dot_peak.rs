use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels;
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("dot_peak");
}

/// Of 1, chains 0 to 3 have low bytes 1 to 4 and, as only the lowest code of `x` is not 0, double at each step.
#[test]
fn one_round_by_hand() {
    let d = Device::Cpu;
    let (x, out) = (d.upload_words(DType::U32, [1], &[1]).unwrap(), d.alloc(DType::U32, [1]).unwrap());
    let mut plan = Plan::new(&d);
    kernels::dot_peak(&mut plan, &x, &out, 1).unwrap();
    plan.record().unwrap().run().unwrap();
    // 16 times 1 + .. + 16: a code of 16 at most doubles three times within int8 and then meets 128 as -128.
    let by_hand: i32 =
        (1..=16i32).map(|start| (0..4).fold(start, |acc, _| acc + i32::from((acc & 0xff) as u8 as i8))).sum();
    assert_eq!(block_on(d.read(&out)).unwrap(), [by_hand.cast_unsigned()]);
}

#[test]
fn rejects_output_of_another_shape() {
    let d = Device::Cpu;
    let (x, out) = (d.alloc(DType::U32, [8]).unwrap(), d.alloc(DType::U32, [7]).unwrap());
    let error = kernels::dot_peak(&mut Plan::new(&d), &x, &out, 1).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "out", .. }), "{error}");
}
