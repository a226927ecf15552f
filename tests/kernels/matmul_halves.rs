use wgquant::Error;
use wgquant::gpu::{Device, Plan};
use wgquant::kernels::{self, Columns, Epilogue, Halves};
use wgquant::tensor::DType;

#[test]
fn matches_reference() {
    super::common::check_all("matmul_halves");
}

#[test]
fn rejects_wrong_arguments() {
    let d = Device::Cpu;
    let of = |[x_parts, parts]: [usize; 2], k: usize, width: usize, first: usize| {
        let (x, weight) = (Halves::new(&d, 5, 16, x_parts).unwrap(), Halves::new(&d, k, 8, parts).unwrap());
        let out = d.alloc(DType::F32, [16, width]).unwrap();
        let columns = Columns::new("test", &out, first, 8).unwrap();
        match kernels::matmul_halves(&mut Plan::new(&d), &x, &weight, columns, Epilogue::Store) {
            Ok(()) => "none".to_owned(),
            Err(Error::Shape { arg, .. } | Error::DType { arg, .. }) => arg.to_owned(),
            Err(e) => e.to_string(),
        }
    };
    let refused = |k, width, first| of([2, 1], k, width, first);
    assert_eq!(of([2, 2], 5, 8, 0), "none");
    assert_eq!(of([1, 1], 5, 8, 0), "none");
    assert!(of([1, 2], 5, 8, 0).contains("one f16 a number"), "{}", of([1, 2], 5, 8, 0));
    assert_eq!(refused(5, 8, 0), "none");
    assert_eq!(refused(5, 20, 12), "none");
    assert_eq!(refused(6, 8, 0), "weight");
    assert!(refused(5, 20, 10).contains("not of whole 16 bytes"), "{}", refused(5, 20, 10));
    assert!(refused(5, 18, 8).contains("not of whole 16 bytes"), "{}", refused(5, 18, 8));
}
