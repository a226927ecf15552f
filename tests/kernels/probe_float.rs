use pollster::block_on;
use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, FloatOp};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("probe_float");
}

/// `wrong` and `kind` of f32 values packed to f16, for these words of nearest and truncated results.
fn pack(d: &Device, x: &[f32], nearest: &[u32], truncated: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let up = |w: &[u32]| d.upload_words(DType::U32, [x.len()], w).unwrap();
    let bits: Vec<u32> = x.iter().map(|v| v.to_bits()).collect();
    let [wrong, kind] = [0, 1].map(|_| d.alloc(DType::U32, [x.len()]).unwrap());
    let mut plan = Plan::new(d);
    let inputs = [&up(&bits), &up(nearest), &up(truncated)];
    kernels::probe_float(&mut plan, FloatOp::Pack, inputs, &wrong, &kind).unwrap();
    plan.record().unwrap().run().unwrap();
    (block_on(d.read(&wrong)).unwrap(), block_on(d.read(&kind)).unwrap())
}

/// 1 + 3/2048 lies between two f16; a wrong expectation must show.
#[test]
fn rounding_is_reported_and_errors_show() {
    for d in [Device::Cpu, super::common::gpu()] {
        let (wrong, kind) =
            pack(&d, &[1.0 + 3.0 / 2048.0, 1.0, 1.0], &[0x3c02, 0x3c00, 0x3c01], &[0x3c01, 0x3c00, 0x3c01]);
        assert_eq!(wrong, [0, 0, 1], "{}", d.name());
        assert!(matches!(kind[0], 1 | 2), "{}: {kind:?}", d.name());
        println!("{} rounds f32 to f16 {}", d.name(), ["", "to nearest even", "toward zero"][kind[0] as usize]);
    }
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let [a, b] = [4, 5].map(|n| d.alloc(DType::U32, [n]).unwrap());
    let error = kernels::probe_float(&mut Plan::new(&d), FloatOp::Exp, [&a, &a, &b], &a, &a).unwrap_err();
    assert!(matches!(error, Error::Shape { arg: "high", .. }), "{error}");
}
