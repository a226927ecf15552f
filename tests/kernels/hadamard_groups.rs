use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Scaled, hadamard_groups_fits};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("hadamard_groups");
}

#[test]
fn rejects_what_does_not_fit() {
    assert!(hadamard_groups_fits(1, 64, 32) && hadamard_groups_fits(32, 21504, 32));
    for (block, cols, group) in [(64, 128, 32), (12, 96, 32), (0, 96, 32), (32, 80, 32), (32, 128, 64), (32, 32, 32)] {
        assert!(!hadamard_groups_fits(block, cols, group), "{block} {cols} {group}");
    }
    let d = Device::Cpu;
    let (x, codes) = (d.alloc(DType::F32, [2, 64]).unwrap(), d.alloc(DType::I8, [2, 64]).unwrap());
    let of = |scales: [usize; 2], group, block| {
        let scales = d.alloc(DType::F32, scales).unwrap();
        let out = Scaled { codes: &codes, scales: &scales, group };
        kernels::hadamard_groups(&mut Plan::new(&d), &x, out, block).unwrap_err()
    };
    assert!(matches!(of([2, 3], 32, 32), Error::Shape { .. } | Error::Argument { .. }));
    let error = of([2, 2], 32, 64).to_string();
    assert!(error.contains("hadamard_groups: `block`") && error.contains("blocks of 64 of 64 columns"), "{error}");
    assert!(of([2, 4], 16, 32).to_string().contains("in groups of 16"));
}
